//! Usage objects as the providers send them, what is refused, and that nothing gets lost.

use proptest::prelude::*;

use super::*;

fn none() -> Quantities {
    Quantities::default()
}

fn check(cases: Vec<(&str, Dialect, &str, Quantities)>) {
    for (what, dialect, json, expected) in cases {
        assert_eq!(normalize(dialect, json), Ok(expected), "{what}");
    }
}

#[test]
fn openai_counts_cached_and_reasoning_tokens_inside() {
    use Dialect::OpenAi;
    check(vec![
        (
            "a plain chat completion",
            OpenAi,
            r#"{"prompt_tokens": 19, "completion_tokens": 10, "total_tokens": 29,
             "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
             "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0,
               "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0}}"#,
            Quantities { input: 19, output: 10, ..none() },
        ),
        (
            "a cached prompt",
            OpenAi,
            r#"{"prompt_tokens": 2006, "completion_tokens": 300, "total_tokens": 2306,
             "prompt_tokens_details": {"cached_tokens": 1920}}"#,
            Quantities { input: 86, cache_read: 1920, output: 300, ..none() },
        ),
        (
            "a prompt partly written to the cache",
            OpenAi,
            r#"{"input_tokens": 2600, "output_tokens": 1, "total_tokens": 2601,
             "input_tokens_details": {"cached_tokens": 2000, "cache_write_tokens": 400}}"#,
            Quantities { input: 200, cache_read: 2000, cache_write: 400, output: 1, ..none() },
        ),
        (
            "a response that was thought about",
            OpenAi,
            r#"{"input_tokens": 75, "input_tokens_details": {"cached_tokens": 0},
             "output_tokens": 1186, "output_tokens_details": {"reasoning_tokens": 1024},
             "total_tokens": 1261}"#,
            Quantities { input: 75, output: 162, reasoning: 1024, ..none() },
        ),
        (
            "rejected predictions are output",
            OpenAi,
            r#"{"prompt_tokens": 400, "completion_tokens": 120, "total_tokens": 520,
             "completion_tokens_details": {"reasoning_tokens": 0, "accepted_prediction_tokens": 60,
               "rejected_prediction_tokens": 40}}"#,
            Quantities { input: 400, output: 120, ..none() },
        ),
        (
            "audio both ways",
            OpenAi,
            r#"{"prompt_tokens": 110, "completion_tokens": 396, "total_tokens": 506,
             "prompt_tokens_details": {"audio_tokens": 100, "cached_tokens": 0},
             "completion_tokens_details": {"audio_tokens": 299}}"#,
            Quantities { input: 10, audio_input: 100, output: 97, audio_output: 299, ..none() },
        ),
        (
            "audio of which some is cached",
            OpenAi,
            r#"{"input_tokens": 1459, "output_tokens": 396, "total_tokens": 1855,
             "input_token_details": {"text_tokens": 1349, "audio_tokens": 110,
               "cached_tokens": 1408,
               "cached_tokens_details": {"text_tokens": 1344, "audio_tokens": 64}},
             "output_token_details": {"text_tokens": 97, "audio_tokens": 299}}"#,
            Quantities {
                input: 5,
                audio_input: 46,
                cache_read: 1408,
                output: 97,
                audio_output: 299,
                ..none()
            },
        ),
        (
            "an embedding",
            OpenAi,
            r#"{"prompt_tokens": 8, "total_tokens": 8}"#,
            Quantities { input: 8, ..none() },
        ),
        (
            "details that are null",
            OpenAi,
            r#"{"prompt_tokens": 8, "completion_tokens": 2, "prompt_tokens_details": null,
             "completion_tokens_details": {"reasoning_tokens": null}}"#,
            Quantities { input: 8, output: 2, ..none() },
        ),
    ]);
}

#[test]
fn imitators_of_openai_are_read_by_their_totals_and_names() {
    use Dialect::OpenAi;
    check(vec![
        (
            "xAI counts reasoning beside the completion",
            OpenAi,
            r#"{"prompt_tokens": 10120, "completion_tokens": 1499, "total_tokens": 14428,
             "prompt_tokens_details": {"cached_tokens": 128},
             "completion_tokens_details": {"reasoning_tokens": 2809}}"#,
            Quantities { input: 9992, cache_read: 128, output: 1499, reasoning: 2809, ..none() },
        ),
        (
            "xAI even where it would fit inside",
            OpenAi,
            r#"{"prompt_tokens": 20, "completion_tokens": 7, "total_tokens": 30,
             "completion_tokens_details": {"reasoning_tokens": 3}}"#,
            Quantities { input: 20, output: 7, reasoning: 3, ..none() },
        ),
        (
            "DeepSeek",
            OpenAi,
            r#"{"prompt_tokens": 1000, "completion_tokens": 50, "total_tokens": 1050,
             "prompt_cache_hit_tokens": 640, "prompt_cache_miss_tokens": 360}"#,
            Quantities { input: 360, cache_read: 640, output: 50, ..none() },
        ),
        (
            "Moonshot",
            OpenAi,
            r#"{"prompt_tokens": 1000, "completion_tokens": 50, "total_tokens": 1050,
             "cached_tokens": 256}"#,
            Quantities { input: 744, cache_read: 256, output: 50, ..none() },
        ),
    ]);
}

#[test]
fn anthropic_counts_the_cache_beside_the_input() {
    use Dialect::Anthropic;
    check(vec![
        (
            "a first, cached request",
            Anthropic,
            r#"{"input_tokens": 3, "cache_creation_input_tokens": 12304, "cache_read_input_tokens": 0,
             "output_tokens": 550}"#,
            Quantities { input: 3, cache_write: 12304, output: 550, ..none() },
        ),
        (
            "its successor",
            Anthropic,
            r#"{"input_tokens": 21, "cache_creation_input_tokens": 188,
             "cache_read_input_tokens": 12304, "output_tokens": 393,
             "cache_creation": {"ephemeral_5m_input_tokens": 88, "ephemeral_1h_input_tokens": 100},
             "server_tool_use": {"web_search_requests": 1}, "service_tier": "standard"}"#,
            Quantities { input: 21, cache_write: 188, cache_read: 12304, output: 393, ..none() },
        ),
        (
            "only the kinds of the written tokens",
            Anthropic,
            r#"{"input_tokens": 1, "output_tokens": 2,
             "cache_creation": {"ephemeral_5m_input_tokens": 3, "ephemeral_1h_input_tokens": 4}}"#,
            Quantities { input: 1, output: 2, cache_write: 7, ..none() },
        ),
        (
            "thinking",
            Anthropic,
            r#"{"input_tokens": 60, "output_tokens": 900, "cache_read_input_tokens": null,
             "output_tokens_details": {"thinking_tokens": 700}}"#,
            Quantities { input: 60, output: 200, reasoning: 700, ..none() },
        ),
        (
            "a conversation compacted on the way",
            Anthropic,
            r#"{"input_tokens": 23000, "output_tokens": 1000, "cache_read_input_tokens": 5,
             "iterations": [
               {"type": "compaction", "input_tokens": 180000, "output_tokens": 3500,
                "cache_read_input_tokens": 40, "cache_creation_input_tokens": 2},
               {"type": "message", "input_tokens": 23000, "output_tokens": 1000,
                "cache_read_input_tokens": 5}]}"#,
            Quantities { input: 203_000, output: 4500, cache_read: 45, cache_write: 2, ..none() },
        ),
    ]);
}

#[test]
fn gemini_counts_the_cache_inside_and_thoughts_beside() {
    use Dialect::Gemini;
    check(vec![
        (
            "a thoughtful answer",
            Gemini,
            r#"{"promptTokenCount": 20, "candidatesTokenCount": 198, "thoughtsTokenCount": 405,
             "totalTokenCount": 623,
             "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 20}]}"#,
            Quantities { input: 20, output: 198, reasoning: 405, ..none() },
        ),
        (
            "thoughts among the candidates, in snake case",
            Gemini,
            r#"{"prompt_token_count": 341, "candidates_token_count": 3362,
             "thoughts_token_count": 3347, "total_token_count": 3703}"#,
            Quantities { input: 341, output: 15, reasoning: 3347, ..none() },
        ),
        (
            "a cached prompt with an image",
            Gemini,
            r#"{"promptTokenCount": 9660, "cachedContentTokenCount": 9651, "candidatesTokenCount": 40,
             "totalTokenCount": 9700,
             "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 9402},
                                     {"modality": "IMAGE", "tokenCount": 258}],
             "cacheTokensDetails": [{"modality": "TEXT", "tokenCount": 9393},
                                    {"modality": "IMAGE", "tokenCount": 258}]}"#,
            Quantities { input: 9, cache_read: 9651, output: 40, ..none() },
        ),
        (
            "a cached part that only its details tell",
            Gemini,
            r#"{"cache_tokens_details": [{"modality": "TEXT", "token_count": 1240},
                                      {"modality": "IMAGE", "token_count": 807}],
             "cached_content_token_count": null, "candidates_token_count": 325,
             "prompt_token_count": 4583, "thoughts_token_count": 874, "total_token_count": 5782}"#,
            Quantities { input: 2536, cache_read: 2047, output: 325, reasoning: 874, ..none() },
        ),
        (
            "tools used on the way",
            Gemini,
            r#"{"promptTokenCount": 100, "toolUsePromptTokenCount": 2500, "candidatesTokenCount": 50,
             "thoughtsTokenCount": 30, "totalTokenCount": 2680}"#,
            Quantities { input: 2600, output: 50, reasoning: 30, ..none() },
        ),
        (
            "nothing but thoughts",
            Gemini,
            r#"{"promptTokenCount": 12, "thoughtsTokenCount": 64, "totalTokenCount": 76}"#,
            Quantities { input: 12, reasoning: 64, ..none() },
        ),
        (
            "audio both ways, some of it cached",
            Gemini,
            r#"{"promptTokenCount": 1000, "cachedContentTokenCount": 300, "responseTokenCount": 80,
             "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": 700},
                                     {"modality": "TEXT", "tokenCount": 300}],
             "cacheTokensDetails": [{"modality": "AUDIO", "tokenCount": 200},
                                    {"modality": "TEXT", "tokenCount": 100}],
             "responseTokensDetails": [{"modality": "AUDIO", "tokenCount": 75}]}"#,
            Quantities {
                input: 200,
                audio_input: 500,
                cache_read: 300,
                output: 5,
                audio_output: 75,
                ..none()
            },
        ),
        (
            "audio cached without saying so",
            Gemini,
            r#"{"promptTokenCount": 100, "cachedContentTokenCount": 80, "candidatesTokenCount": 1,
             "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": 100}]}"#,
            Quantities { audio_input: 20, cache_read: 80, output: 1, ..none() },
        ),
    ]);
}

#[test]
fn what_cannot_be_charged_is_refused_by_its_field() {
    use Dialect::{Anthropic, Gemini, OpenAi};
    let cases = [
        (OpenAi, r#"{"completion_tokens": 1}"#, "prompt_tokens is missing"),
        (OpenAi, r#"{"prompt_tokens": 1}"#, "completion_tokens is missing"),
        (OpenAi, r#"{"prompt_tokens": 1, "total_tokens": 3}"#, "completion_tokens is missing"),
        (Anthropic, r#"{"output_tokens": 1}"#, "input_tokens is missing"),
        (Anthropic, r#"{"input_tokens": 1}"#, "output_tokens is missing"),
        (Anthropic, r#"{"prompt_tokens": 1, "completion_tokens": 1}"#, "input_tokens is missing"),
        (Gemini, r#"{"totalTokenCount": 1}"#, "promptTokenCount is missing"),
        (OpenAi, r#"{"prompt_tokens": -1, "completion_tokens": 1}"#, "prompt_tokens is -1"),
        (OpenAi, r#"{"prompt_tokens": 1.5, "completion_tokens": 1}"#, "prompt_tokens is 1.5"),
        (OpenAi, r#"{"prompt_tokens": 1e3, "completion_tokens": 1}"#, "not a whole number"),
        (OpenAi, r#"{"prompt_tokens": "7", "completion_tokens": 1}"#, "prompt_tokens is \"7\""),
        (OpenAi, r#"{"prompt_tokens": true, "completion_tokens": 1}"#, "prompt_tokens is true"),
        (OpenAi, r#"{"prompt_tokens": 1000000001, "completion_tokens": 1}"#, "at most 1000000000"),
        (
            OpenAi,
            r#"{"prompt_tokens": 99999999999999999999999, "completion_tokens": 1}"#,
            "at most",
        ),
        (OpenAi, "[]", "usage is not an object"),
        (OpenAi, "", "not JSON"),
        (OpenAi, "{", "not JSON"),
        (OpenAi, r#"{"prompt_tokens": NaN}"#, "not JSON"),
        (
            OpenAi,
            r#"{"prompt_tokens": 1, "completion_tokens": 1, "prompt_tokens_details": 4}"#,
            "prompt_tokens_details is not an object",
        ),
        (
            OpenAi,
            r#"{"prompt_tokens": 1, "input_tokens": 2, "completion_tokens": 1}"#,
            "prompt_tokens and input_tokens count the same",
        ),
        (
            OpenAi,
            r#"{"prompt_tokens": 10, "completion_tokens": 1,
                     "prompt_tokens_details": {"cached_tokens": 11}}"#,
            "prompt_tokens_details.cached_tokens (11) exceeds prompt_tokens (10)",
        ),
        (
            OpenAi,
            r#"{"prompt_tokens": 10, "completion_tokens": 1,
                     "prompt_tokens_details": {"cached_tokens": 6, "cache_write_tokens": 5}}"#,
            "cached_tokens + prompt_tokens_details.cache_write_tokens (11) exceeds",
        ),
        (
            OpenAi,
            r#"{"prompt_tokens": 10, "completion_tokens": 1,
                     "completion_tokens_details": {"reasoning_tokens": 2}}"#,
            "completion_tokens_details.reasoning_tokens (2) exceeds completion_tokens (1)",
        ),
        (
            Anthropic,
            r#"{"input_tokens": 1, "output_tokens": 1, "cache_creation_input_tokens": 5,
                        "cache_creation": {"ephemeral_1h_input_tokens": 6}}"#,
            "cache_creation.ephemeral_1h_input_tokens (6) exceeds cache_creation_input_tokens (5)",
        ),
        (
            Anthropic,
            r#"{"input_tokens": 1, "output_tokens": 1, "iterations": {}}"#,
            "iterations is not a list",
        ),
        (
            Anthropic,
            r#"{"input_tokens": 1, "output_tokens": 1,
                        "iterations": [{"type": "compaction", "input_tokens": 5}]}"#,
            "iterations[0].output_tokens is missing",
        ),
        (
            Gemini,
            r#"{"promptTokenCount": 5, "cachedContentTokenCount": 6}"#,
            "cachedContentTokenCount (6) exceeds promptTokenCount (5)",
        ),
        (
            Gemini,
            r#"{"promptTokenCount": 5, "candidatesTokenCount": 1,
                     "candidatesTokensDetails": [{"modality": "AUDIO", "tokenCount": 2}]}"#,
            "candidatesTokensDetails[0].tokenCount (2) exceeds candidatesTokenCount (1)",
        ),
        (
            Gemini,
            r#"{"promptTokenCount": 5, "promptTokensDetails": [3]}"#,
            "promptTokensDetails[0] is not an object",
        ),
    ];
    for (dialect, json, expected) in cases {
        let error = normalize(dialect, json).expect_err(json).to_string();
        assert!(error.contains(expected), "{json}: {error}");
    }
}

#[test]
fn a_whole_answer_instead_of_its_usage_is_not_read() {
    let json = format!(r#"{{"prompt_tokens": 1, "text": "{}"}}"#, "x".repeat(MAX_USAGE_BYTES));
    assert_eq!(normalize(Dialect::OpenAi, &json), Err(UsageError::TooLong(json.len())));
    let nested = "[".repeat(10_000);
    assert!(matches!(normalize(Dialect::OpenAi, &nested), Err(UsageError::NotJson(_))));
}

proptest! {
    #[test]
    fn openai_totals_are_preserved(
        (prompt, cached, written, audio) in (0..9000_u64)
            .prop_flat_map(|all| (Just(all), 0..=all, 0..=all, 0..=all)),
        (completion, reasoning) in (0..9000_u64).prop_flat_map(|all| (Just(all), 0..=all)),
        beside: bool,
    ) {
        let written = written.min(prompt - cached);
        let total = prompt + completion + if beside { reasoning } else { 0 };
        let json = format!(
            r#"{{"prompt_tokens": {prompt}, "completion_tokens": {completion},
                "total_tokens": {total},
                "prompt_tokens_details": {{"cached_tokens": {cached}, "audio_tokens": {audio},
                  "cache_write_tokens": {written}}},
                "completion_tokens_details": {{"reasoning_tokens": {reasoning}}}}}"#);
        let used = normalize(Dialect::OpenAi, &json).unwrap();
        prop_assert_eq!(used.prompt_tokens(), prompt);
        prop_assert_eq!(used.prompt_tokens() + used.completion_tokens(), total);
        prop_assert_eq!((used.cache_read, used.cache_write), (cached, written));
        prop_assert_eq!(used.reasoning, reasoning);
        prop_assert!(used.audio_input <= audio);
    }

    #[test]
    fn anthropic_totals_are_preserved(
        input in 0..9000_u64, read in 0..9000_u64, short in 0..9000_u64, long in 0..9000_u64,
        output in 0..9000_u64,
    ) {
        let written = short + long;
        let json = format!(
            r#"{{"input_tokens": {input}, "output_tokens": {output},
                "cache_read_input_tokens": {read}, "cache_creation_input_tokens": {written},
                "cache_creation": {{"ephemeral_5m_input_tokens": {short},
                                    "ephemeral_1h_input_tokens": {long}}}}}"#);
        let used = normalize(Dialect::Anthropic, &json).unwrap();
        prop_assert_eq!(used.prompt_tokens(), input + read + written);
        prop_assert_eq!(used.completion_tokens(), output);
    }

    #[test]
    fn gemini_totals_are_preserved(
        (prompt, cached, audio) in (0..9000_u64)
            .prop_flat_map(|all| (Just(all), 0..=all, 0..=all)),
        (candidates, thoughts) in (0..9000_u64).prop_flat_map(|all| (Just(all), 0..=all)),
        tool_use in 0..9000_u64,
        inside: bool,
    ) {
        let total = prompt + tool_use + candidates + if inside { 0 } else { thoughts };
        let json = format!(
            r#"{{"promptTokenCount": {prompt}, "cachedContentTokenCount": {cached},
                "toolUsePromptTokenCount": {tool_use}, "candidatesTokenCount": {candidates},
                "thoughtsTokenCount": {thoughts}, "totalTokenCount": {total},
                "promptTokensDetails": [{{"modality": "AUDIO", "tokenCount": {audio}}}]}}"#);
        let used = normalize(Dialect::Gemini, &json).unwrap();
        prop_assert_eq!(used.prompt_tokens(), prompt + tool_use);
        prop_assert_eq!(used.prompt_tokens() + used.completion_tokens(), total);
        prop_assert_eq!((used.cache_read, used.reasoning), (cached, thoughts));
    }

    #[test]
    fn no_text_makes_it_panic(json in ".{0,200}", counts in prop::collection::vec(any::<i64>(), 6)) {
        let object = format!(
            r#"{{"prompt_tokens": {0}, "completion_tokens": {1}, "input_tokens": {2},
                "promptTokenCount": {3}, "total_tokens": {4}, "output_tokens": {5}}}"#,
            counts[0], counts[1], counts[2], counts[3], counts[4], counts[5]);
        for dialect in [Dialect::OpenAi, Dialect::Anthropic, Dialect::Gemini] {
            prop_assert!(normalize(dialect, &json).is_err());
            let _ = normalize(dialect, &object);
        }
    }
}
