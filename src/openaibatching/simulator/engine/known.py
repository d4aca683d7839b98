"""The parameters each endpoint knows (openai-python 3.54, `types/**/*_params.py`)."""

_TEXT = """
/v1/responses
    access_programs background background_options context_management conversation image include
    input instructions max_output_tokens max_tool_calls metadata model moderation
    parallel_tool_calls previous_response_id prompt prompt_cache_key prompt_cache_options
    prompt_cache_retention reasoning safety_identifier service_tier store stream stream_options
    temperature text tool_choice tools top_logprobs top_p truncation user
/v1/chat/completions
    audio frequency_penalty function_call functions logit_bias logprobs max_completion_tokens
    max_tokens messages metadata modalities model moderation n parallel_tool_calls prediction
    presence_penalty prompt_cache_key prompt_cache_options prompt_cache_retention
    reasoning_effort response_format safety_identifier seed service_tier stop store stream
    stream_options temperature tool_choice tools top_logprobs top_p user verbosity
    web_search_options
/v1/completions
    best_of echo frequency_penalty logit_bias logprobs max_tokens model n presence_penalty
    prompt seed stop stream stream_options suffix temperature top_p user
/v1/embeddings
    dimensions encoding_format input model user
/v1/moderations
    input model
/v1/images/generations
    background complexity frame_count frame_duration_ms model moderation n output_compression
    output_format partial_images prompt quality response_format safety_identifier size stream
    style svg user
/v1/images/edits
    background complexity frame_count frame_duration_ms image images input_fidelity markup mask
    model n output_compression output_format partial_images prompt quality response_format
    safety_identifier size stream svg user
/v1/videos
    input_reference model prompt seconds size
"""


def _read() -> dict[str, frozenset[str]]:
    known: dict[str, set[str]] = {}
    for word in _TEXT.split():
        if word.startswith("/"):
            names = known.setdefault(word, set())
        else:
            names.add(word)
    return {endpoint: frozenset(names) for endpoint, names in known.items()}


KNOWN = _read()
