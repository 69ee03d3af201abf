//! Anthropic: messages.
//!
//! `input_tokens` counts what comes after the last cache breakpoint; tokens read from and written
//! to the cache are counted beside it
//! (<https://platform.claude.com/docs/en/build-with-claude/prompt-caching>, "tracking cache
//! performance"). `cache_creation` splits the written tokens by how long they are kept; both kinds
//! are one class here. Thinking is part of `output_tokens`, and `output_tokens_details` says how
//! much of it, where the provider tells.
//!
//! When a long conversation is compacted on the way, the top-level counts leave the compaction out
//! although it is charged, and `iterations` lists it
//! (<https://platform.claude.com/docs/en/build-with-claude/compaction>, "understanding usage"): it
//! is added here. Other iterations are in the top-level counts already, except those of an advisor,
//! which is another model and needs an event of its own.

use super::{Count, Fields, UsageError, or_zero, without};
use crate::metering::quantities::Quantities;

const STREAM_HINT: &str = ": in a stream, input and cache counts come in message_start and the final output count in \
     message_delta; merge the two";

pub(super) fn read(usage: &Fields<'_>) -> Result<Quantities, UsageError> {
    let input = usage.required(&["input_tokens"], STREAM_HINT)?;
    let output = usage.required(&["output_tokens"], STREAM_HINT)?;
    let mut quantities = read_pass(usage, &input, &output)?;
    for pass in usage.list(&["iterations"])? {
        let kind = pass.map.get("type").and_then(serde_json::Value::as_str);
        if kind == Some("compaction") {
            let input = pass.required(&["input_tokens"], "")?;
            let output = pass.required(&["output_tokens"], "")?;
            quantities = sum(quantities, read_pass(&pass, &input, &output)?);
        }
    }
    Ok(quantities)
}

/// One pass of the model over its input.
fn read_pass(pass: &Fields<'_>, input: &Count, output: &Count) -> Result<Quantities, UsageError> {
    let details = pass.object(&["output_tokens_details"])?;
    let thinking = details.map_or(Ok(None), |details| details.count(&["thinking_tokens"]))?;
    let thinking = or_zero(thinking, "thinking_tokens");
    Ok(Quantities {
        input: input.tokens,
        output: without(output, &[&thinking])?,
        reasoning: thinking.tokens,
        cache_read: pass.tokens(&["cache_read_input_tokens"])?,
        cache_write: written(pass)?,
        ..Default::default()
    })
}

/// The total is the sum of its kinds; either may be absent.
fn written(pass: &Fields<'_>) -> Result<u64, UsageError> {
    let total = pass.count(&["cache_creation_input_tokens"])?;
    let Some(kinds) = pass.object(&["cache_creation"])? else {
        return Ok(total.map_or(0, |total| total.tokens));
    };
    let short = or_zero(kinds.count(&["ephemeral_5m_input_tokens"])?, "ephemeral_5m_input_tokens");
    let long = or_zero(kinds.count(&["ephemeral_1h_input_tokens"])?, "ephemeral_1h_input_tokens");
    match total {
        Some(total) => without(&total, &[&short, &long]).map(|_| total.tokens),
        None => Ok(short.tokens + long.tokens),
    }
}

fn sum(first: Quantities, second: Quantities) -> Quantities {
    Quantities {
        input: first.input.saturating_add(second.input),
        output: first.output.saturating_add(second.output),
        reasoning: first.reasoning.saturating_add(second.reasoning),
        cache_read: first.cache_read.saturating_add(second.cache_read),
        cache_write: first.cache_write.saturating_add(second.cache_write),
        ..first
    }
}
