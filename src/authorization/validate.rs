//! What makes a request one that can be understood.

use std::fmt::Display;

use super::{decision::Request, error::AuthorizationError, limits};
use crate::metering::quantities::MAX_TOKENS_PER_CLASS;

pub(super) fn invalid(field: &'static str, problem: impl Display) -> AuthorizationError {
    AuthorizationError::Invalid { field, problem: problem.to_string() }
}

pub(super) fn request(request: &Request) -> Result<(), AuthorizationError> {
    text("request_id", &request.request_id, limits::MAX_REQUEST_ID)?;
    text("end_user", &request.end_user, limits::MAX_END_USER)?;
    tokens("input_tokens", request.input_tokens)?;
    tokens("max_output_tokens", request.max_output_tokens.unwrap_or(0))?;
    if request.labels.len() > limits::MAX_LABELS {
        let count = request.labels.len();
        let most = limits::MAX_LABELS;
        return Err(invalid("labels", format!("{count} labels; send at most {most}")));
    }
    for (name, value) in &request.labels {
        if name.is_empty() {
            return Err(invalid("labels", "a label without a name; name it or leave it out"));
        }
        text("labels", name, limits::MAX_LABEL_NAME)?;
        text("labels", value, limits::MAX_LABEL_VALUE)?;
    }
    Ok(())
}

pub(super) fn tokens(field: &'static str, count: u64) -> Result<(), AuthorizationError> {
    if count > MAX_TOKENS_PER_CLASS {
        let problem = format!("{count} tokens; a request has at most {MAX_TOKENS_PER_CLASS}");
        return Err(invalid(field, problem));
    }
    Ok(())
}

fn text(field: &'static str, value: &str, most: usize) -> Result<(), AuthorizationError> {
    let length = value.chars().count();
    if length > most {
        return Err(invalid(field, format!("{length} characters; send at most {most}")));
    }
    if value.chars().any(char::is_control) {
        return Err(invalid(field, "a control character; send printable text"));
    }
    Ok(())
}
