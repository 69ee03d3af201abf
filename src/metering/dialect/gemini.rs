//! Google: `usageMetadata` of the Gemini API and Vertex AI, in camel case or snake case.
//!
//! `promptTokenCount` includes the cached content ("this is still the total effective prompt size",
//! <https://ai.google.dev/api/generate-content#UsageMetadata>); `toolUsePromptTokenCount` comes on
//! top and is charged as input. `candidatesTokenCount` excludes `thoughtsTokenCount`: the total is
//! the sum of all four. Some answers of the Gemini API counted thoughts among the candidates
//! (<https://github.com/BerriAI/litellm/pull/10141>,
//! <https://github.com/Arize-ai/openinference/issues/3177>), and the total shows that, too.
//!
//! Zero counts are left out, as protocol buffers do in JSON, so that only the prompt is required.
//! Some answers give `cacheTokensDetails` without `cachedContentTokenCount`
//! (<https://github.com/googleapis/python-genai/issues/795>); their sum is the cached part.

use super::{Count, Fields, Prompt, UsageError, or_zero, without};
use crate::metering::quantities::Quantities;

const HINT: &str = ": the last chunk of a stream has it";

pub(super) fn read(usage: &Fields<'_>) -> Result<Quantities, UsageError> {
    let whole = usage.required(&["promptTokenCount", "prompt_token_count"], HINT)?;
    let tool_use = usage.tokens(&["toolUsePromptTokenCount", "tool_use_prompt_token_count"])?;
    let quantities = split_answer(usage, whole.tokens + tool_use)?;

    let cached_kinds = usage.list(&["cacheTokensDetails", "cache_tokens_details"])?;
    let cached = usage.count(&["cachedContentTokenCount", "cached_content_token_count"])?;
    let cached = match cached {
        Some(cached) => cached,
        None => of_kind(&cached_kinds, None)?.unwrap_or_else(|| or_zero(None, "cached")),
    };
    let kinds = usage.list(&["promptTokensDetails", "prompt_tokens_details"])?;
    let audio = or_zero(of_kind(&kinds, Some("AUDIO"))?, "promptTokensDetails");
    let cached_audio = if cached_kinds.is_empty() {
        None
    } else {
        Some(or_zero(of_kind(&cached_kinds, Some("AUDIO"))?, "cacheTokensDetails"))
    };
    let written = or_zero(None, "cacheWrite");
    let split = Prompt { whole, cached, written, audio, cached_audio }.split(quantities)?;
    Ok(Quantities { input: split.input + tool_use, ..split })
}

fn split_answer(usage: &Fields<'_>, prompt_tokens: u64) -> Result<Quantities, UsageError> {
    let names = [
        "candidatesTokenCount",
        "candidates_token_count",
        "responseTokenCount",
        "response_token_count",
    ];
    let candidates = or_zero(usage.count(&names)?, "candidatesTokenCount");
    let thoughts = usage.count(&["thoughtsTokenCount", "thoughts_token_count"])?;
    let thoughts = or_zero(thoughts, "thoughtsTokenCount");
    let names = [
        "candidatesTokensDetails",
        "candidates_tokens_details",
        "responseTokensDetails",
        "response_tokens_details",
    ];
    let audio = or_zero(of_kind(&usage.list(&names)?, Some("AUDIO"))?, "candidatesTokensDetails");
    let total = usage.count(&["totalTokenCount", "total_token_count"])?;
    let visible = prompt_tokens + candidates.tokens;
    let thoughts_are_inside =
        total.is_some_and(|total| total.tokens == visible) && thoughts.tokens <= candidates.tokens;
    let output = if thoughts_are_inside {
        without(&candidates, &[&thoughts, &audio])?
    } else {
        without(&candidates, &[&audio])?
    };
    Ok(Quantities {
        output,
        reasoning: thoughts.tokens,
        audio_output: audio.tokens,
        ..Default::default()
    })
}

/// The tokens of one modality, or of all, in a list of `{modality, tokenCount}`; `None` for an
/// empty list.
fn of_kind(kinds: &[Fields<'_>], modality: Option<&str>) -> Result<Option<Count>, UsageError> {
    let mut sum: Option<Count> = None;
    for kind in kinds {
        let named = kind.map.get("modality").and_then(serde_json::Value::as_str);
        if modality.is_some() && named != modality {
            continue;
        }
        let tokens = kind.tokens(&["tokenCount", "token_count"])?;
        let before = sum.map_or(0, |sum| sum.tokens);
        let field = kind.path_of("tokenCount");
        sum = Some(Count { tokens: before.saturating_add(tokens), field });
    }
    Ok(sum)
}
