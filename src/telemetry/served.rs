//! Which call a thread is at, for the lines that are logged meanwhile.
//!
//! A span of `tracing` would say the same, but writes its fields down for each call, logged or not,
//! which was a tenth of what an `Authorize` costs. Here a call leaves a pointer with its thread
//! while it is polled, and only a line that is logged reads it.

use std::{cell::RefCell, fmt, sync::Arc};

use tracing::{Event, Subscriber};
use tracing_subscriber::{
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};

/// A call, as its log lines name it.
#[derive(Debug, PartialEq, Eq)]
pub struct ServedCall {
    /// Letters, digits and `-_.:/` alone, so that it needs no escaping anywhere.
    pub request_id: String,
    /// The RPC's path.
    pub rpc: &'static str,
}

thread_local! {
    static SERVED: RefCell<Option<Arc<ServedCall>>> = const { RefCell::new(None) };
}

/// Names the call in every line that this thread logs until the guard is dropped.
#[must_use]
pub fn serving(call: &Arc<ServedCall>) -> Serving {
    Serving { before: SERVED.replace(Some(Arc::clone(call))) }
}

/// While it lives, the thread serves a call.
#[derive(Debug)]
pub struct Serving {
    before: Option<Arc<ServedCall>>,
}

impl Drop for Serving {
    fn drop(&mut self) {
        SERVED.set(self.before.take());
    }
}

/// Lines of `format`, with the call that they are about.
pub(super) enum WithCall<Format> {
    /// As a member `span` of the line's JSON object.
    Json(Format),
    /// At the end of the line.
    Text(Format),
}

impl<Format> WithCall<Format> {
    /// The line with the call in it, as an object's last member or behind its text.
    fn name(&self, line: &str, call: &ServedCall) -> String {
        let ServedCall { request_id, rpc } = call;
        let line = line.trim_end();
        match (self, line.strip_suffix('}')) {
            (Self::Json(_), Some(members)) => format!(
                "{members},\"span\":{{\"name\":\"call\",\"request_id\":\"{request_id}\",\
                 \"rpc\":\"{rpc}\"}}}}\n"
            ),
            _ => format!("{line} request_id={request_id} rpc={rpc}\n"),
        }
    }
}

impl<S, N, Format> FormatEvent<S, N> for WithCall<Format>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    Format: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let (Self::Json(format) | Self::Text(format)) = self;
        let Some(call) = SERVED.with_borrow(Clone::clone) else {
            return format.format_event(context, writer, event);
        };
        let mut line = String::new();
        format.format_event(context, Writer::new(&mut line), event)?;
        writer.write_str(&self.name(&line, &call))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(request_id: &str) -> Arc<ServedCall> {
        Arc::new(ServedCall { request_id: request_id.to_owned(), rpc: "/a.B/C" })
    }

    fn now_serving() -> Option<String> {
        SERVED.with_borrow(|call| call.as_ref().map(|call| call.request_id.clone()))
    }

    #[test]
    fn a_thread_serves_the_innermost_call_and_then_what_it_served_before() {
        let outer = serving(&call("outer"));
        {
            let _inner = serving(&call("inner"));
            assert_eq!(now_serving().as_deref(), Some("inner"));
        }
        assert_eq!(now_serving().as_deref(), Some("outer"));
        drop(outer);
        assert_eq!(now_serving(), None);
    }

    #[test]
    fn a_line_names_its_call() {
        assert_eq!(
            WithCall::Json(()).name("{\"level\":\"INFO\"}\n", &call("a-1")),
            "{\"level\":\"INFO\",\"span\":{\"name\":\"call\",\"request_id\":\"a-1\",\
             \"rpc\":\"/a.B/C\"}}\n"
        );
        assert_eq!(
            WithCall::Text(()).name("INFO done\n", &call("a-1")),
            "INFO done request_id=a-1 rpc=/a.B/C\n"
        );
    }
}
