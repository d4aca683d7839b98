/** A user's CommonJS module. */

import OpenAIBatching = require("@miko/openaibatching");

export function checked(): [string, boolean] {
  const client = new OpenAIBatching.OpenAIBatching({ batchServerApiKey: "k", wait: true });
  const other = new OpenAIBatching.default({ batchServerApiKey: "k" });
  return [other.baseURL, client.wait];
}
