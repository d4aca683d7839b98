/**
 * `images.edit` as JSON.
 *
 * The official client sends image files as a multipart form. A line of a batch is JSON, so the Batch
 * API takes, and our server accepts, the JSON form of the same call: `images` and `mask` are
 * references, and a file becomes a `data:` URL.
 */

import { OpenAI, toFile, type Uploadable } from "openai";

const CHUNK_BYTES = 0x8000; // of a call's arguments; a spread of a whole file would not fit

export class JsonImages extends OpenAI.Images {
  // biome-ignore lint/suspicious/noExplicitAny: callers see the signature in resources.ts
  override edit(body: OpenAI.Images.ImageEditParams, options?: OpenAI.RequestOptions): any {
    return this._client.post(
      "/images/edits",
      asJson(body).then((json) => ({ body: json, ...options, stream: body.stream ?? false })),
    );
  }
}

async function asJson({ image, mask, ...body }: OpenAI.Images.ImageEditParams): Promise<object> {
  const files = image ? [image].flat() : [];
  return {
    ...body,
    ...(files.length > 0 && { images: await Promise.all(files.map(reference)) }),
    ...(mask && { mask: await reference(mask) }),
  };
}

async function reference(upload: Uploadable): Promise<{ image_url: string }> {
  // A StreamingFile, which has its content in `data`, is nothing that `toFile` takes.
  const file = await toFile("data" in upload ? upload.data : upload);
  const bytes = new Uint8Array(await file.arrayBuffer());
  const type = (upload as { type?: string }).type || file.type || kind(bytes);
  return { image_url: `data:${type};base64,${base64(bytes)}` };
}

/** What an image is, by its first bytes. */
function kind(bytes: Uint8Array): string {
  const magic = String.fromCharCode(...bytes.subarray(0, 4));
  if (magic.startsWith("\xff\xd8\xff")) return "image/jpeg";
  return magic === "RIFF" ? "image/webp" : "image/png";
}

function base64(bytes: Uint8Array): string {
  let text = "";
  for (let start = 0; start < bytes.length; start += CHUNK_BYTES) {
    text += String.fromCharCode(...bytes.subarray(start, start + CHUNK_BYTES));
  }
  return btoa(text);
}
