//! OpenAI: chat completions (`prompt_tokens`, `completion_tokens`) and responses (`input_tokens`,
//! `output_tokens`), with what imitates them.
//!
//! Cached, written and audio tokens are part of the prompt; reasoning and audio tokens are part of
//! the completion, and so are accepted and rejected predictions, which are charged as any other
//! output (<https://platform.openai.com/docs/api-reference/chat/object>,
//! <https://platform.openai.com/docs/guides/prompt-caching>: a prompt of 2,600 with 2,000 read and
//! 400 written has 200 left).
//!
//! xAI sends the same fields, but counts reasoning beside the completion
//! (<https://docs.x.ai/docs/key-information/consumption-and-rate-limits>: "counted separately from
//! `completion_tokens`, but will be counted in the `total_tokens`"). The total tells which it is.
//!
//! DeepSeek names the cached part `prompt_cache_hit_tokens`, Moonshot puts `cached_tokens` beside
//! the prompt; both mean a part of the prompt.

use super::{Count, Fields, Prompt, UsageError, or_zero, without};
use crate::metering::quantities::Quantities;

const STREAM_HINT: &str =
    ": a stream carries it in its last chunk only, and only with stream_options.include_usage";

pub(super) fn read(usage: &Fields<'_>) -> Result<Quantities, UsageError> {
    let prompt = either(usage, "prompt_tokens", "input_tokens")?;
    let total = usage.count(&["total_tokens"])?;
    let completion = match (either_or_none(usage, "completion_tokens", "output_tokens")?, &total) {
        (Some(completion), _) => completion,
        // Embeddings have no completion, and a total that says so.
        (None, Some(total)) if total.tokens == prompt.tokens => or_zero(None, "completion_tokens"),
        (None, _) => usage.required(&["completion_tokens"], STREAM_HINT)?,
    };
    let quantities = split_completion(usage, &prompt, &completion, total.as_ref())?;
    read_prompt(usage, prompt)?.split(quantities)
}

fn read_prompt(usage: &Fields<'_>, whole: Count) -> Result<Prompt, UsageError> {
    let beside = usage.count(&["prompt_cache_hit_tokens", "cached_tokens"])?;
    let names = ["prompt_tokens_details", "input_tokens_details", "input_token_details"];
    let Some(details) = usage.object(&names)? else {
        let cached = or_zero(beside, "cached_tokens");
        let (written, audio) = (or_zero(None, "cache_write_tokens"), or_zero(None, "audio_tokens"));
        return Ok(Prompt { whole, cached, written, audio, cached_audio: None });
    };
    let cached = details.count(&["cached_tokens"])?.or(beside);
    let by_kind = details.object(&["cached_tokens_details"])?;
    Ok(Prompt {
        whole,
        cached: or_zero(cached, "cached_tokens"),
        written: or_zero(details.count(&["cache_write_tokens"])?, "cache_write_tokens"),
        audio: or_zero(details.count(&["audio_tokens"])?, "audio_tokens"),
        cached_audio: by_kind.map_or(Ok(None), |kinds| kinds.count(&["audio_tokens"]))?,
    })
}

fn split_completion(
    usage: &Fields<'_>,
    prompt: &Count,
    completion: &Count,
    total: Option<&Count>,
) -> Result<Quantities, UsageError> {
    let names = ["completion_tokens_details", "output_tokens_details", "output_token_details"];
    let Some(details) = usage.object(&names)? else {
        return Ok(Quantities { output: completion.tokens, ..Default::default() });
    };
    let reasoning = or_zero(details.count(&["reasoning_tokens"])?, "reasoning_tokens");
    let audio = or_zero(details.count(&["audio_tokens"])?, "audio_tokens");
    let visible = prompt.tokens + completion.tokens;
    let beside = total.is_some_and(|total| total.tokens == visible + reasoning.tokens);
    let output = if beside {
        without(completion, &[&audio])?
    } else {
        without(completion, &[&reasoning, &audio])?
    };
    // Where there is no reasoning, both readings are the same.
    Ok(Quantities {
        output,
        reasoning: reasoning.tokens,
        audio_output: audio.tokens,
        ..Default::default()
    })
}

/// The count under either name; both are there only where they agree.
fn either(usage: &Fields<'_>, chat: &str, responses: &str) -> Result<Count, UsageError> {
    match either_or_none(usage, chat, responses)? {
        Some(count) => Ok(count),
        None => usage.required(&[chat], STREAM_HINT),
    }
}

fn either_or_none(
    usage: &Fields<'_>,
    chat: &str,
    responses: &str,
) -> Result<Option<Count>, UsageError> {
    match (usage.count(&[chat])?, usage.count(&[responses])?) {
        (Some(first), Some(second)) if first.tokens != second.tokens => {
            Err(UsageError::Contradiction { first: first.field, second: second.field })
        }
        (first, second) => Ok(first.or(second)),
    }
}
