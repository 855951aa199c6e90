//! Every way in which a request is not answered, and its status: one table.

use crate::json::Fault as JsonFault;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    Malformed,
    UnknownPath,
    UnknownModel,
    Method,
    TooSlow,
    TooLarge,
    MediaType,
    /// Right form, but a wrong shape, dtype, range, NaN or length.
    Invalid,
    /// The answer could be larger than any that is given.
    AnswerTooLarge,
    Busy,
    Cancelled,
    Internal,
    /// The model's output is NaN or infinite where it may not be.
    NonFinite,
    NotReady,
    Draining,
    Deadline,
}

struct Row {
    reason: Reason,
    status: u16,
    code: &'static str,
    /// `error.type` of OpenAI's form.
    openai: &'static str,
    /// Seconds after which another try makes sense.
    retry_after: Option<u32>,
}

const fn row(reason: Reason, status: u16, code: &'static str, openai: &'static str, retry_after: Option<u32>) -> Row {
    Row { reason, status, code, openai, retry_after }
}

const TABLE: &[Row] = &[
    row(Reason::Malformed, 400, "malformed", "invalid_request_error", None),
    row(Reason::UnknownPath, 404, "unknown_path", "invalid_request_error", None),
    row(Reason::UnknownModel, 404, "model_not_found", "invalid_request_error", None),
    row(Reason::Method, 405, "method_not_allowed", "invalid_request_error", None),
    row(Reason::TooSlow, 408, "too_slow", "invalid_request_error", None),
    row(Reason::TooLarge, 413, "too_large", "invalid_request_error", None),
    row(Reason::MediaType, 415, "unsupported_media_type", "invalid_request_error", None),
    row(Reason::Invalid, 422, "invalid", "invalid_request_error", None),
    row(Reason::Busy, 429, "queue_full", "rate_limit_error", Some(1)),
    row(Reason::Cancelled, 499, "cancelled", "invalid_request_error", None),
    row(Reason::Internal, 500, "internal", "server_error", None),
    row(Reason::NotReady, 503, "not_ready", "server_error", Some(1)),
    row(Reason::Draining, 503, "draining", "server_error", Some(1)),
    row(Reason::Deadline, 504, "deadline", "server_error", None),
    row(Reason::AnswerTooLarge, 422, "answer_too_large", "invalid_request_error", None),
    row(Reason::NonFinite, 500, "non_finite", "server_error", None),
];

impl Reason {
    fn row(self) -> &'static Row {
        // The test below shows that each reason has its row.
        TABLE.iter().find(|r| r.reason == self).unwrap_or(&TABLE[10])
    }

    pub fn status(self) -> u16 {
        self.row().status
    }

    pub fn code(self) -> &'static str {
        self.row().code
    }

    pub fn openai_type(self) -> &'static str {
        self.row().openai
    }

    pub fn retry_after(self) -> Option<u32> {
        self.row().retry_after
    }
}

/// Why a request is refused, in words for the client: no internal name or path is ever put into one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub reason: Reason,
    /// The request's field at fault.
    pub field: Option<String>,
    pub message: String,
    /// Seconds after which another try makes sense, where that is known better than from the reason alone.
    pub retry_s: Option<u32>,
}

impl Refusal {
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Refusal { reason, field: None, message: message.into(), retry_s: None }
    }

    /// 422 at a field.
    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Refusal { field: Some(field.into()), ..Refusal::new(Reason::Invalid, message) }
    }

    pub fn malformed(message: impl Into<String>) -> Self {
        Refusal::new(Reason::Malformed, message)
    }

    /// What `Retry-After` says.
    pub fn retry_after(&self) -> Option<u32> {
        self.retry_s.or(self.reason.retry_after())
    }

    pub fn internal() -> Self {
        Refusal::new(Reason::Internal, "the server failed on this request")
    }

    /// A fault of reading JSON under the field `name` (empty: the document itself).
    pub fn json(name: &str, fault: JsonFault) -> Self {
        match fault {
            JsonFault::Syntax { at, expected } => {
                Refusal::malformed(format!("the body is not JSON: byte {at}: expected {expected}"))
            }
            JsonFault::Value { path, message } => {
                let field = format!("{name}{path}");
                Refusal::invalid(if field.is_empty() { "body".into() } else { field }, message)
            }
        }
    }

    /// The message with its field in front.
    pub fn text(&self) -> String {
        match &self.field {
            Some(field) => format!("{field}: {}", self.message),
            None => self.message.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_exactly_one_row() {
        use Reason::*;
        let all = [
            Malformed,
            UnknownPath,
            UnknownModel,
            Method,
            TooSlow,
            TooLarge,
            MediaType,
            Invalid,
            Busy,
            Cancelled,
            Internal,
            NotReady,
            Draining,
            Deadline,
            AnswerTooLarge,
            NonFinite,
        ];
        assert_eq!(all.len(), TABLE.len());
        for reason in all {
            assert_eq!(TABLE.iter().filter(|r| r.reason == reason).count(), 1, "{reason:?}");
        }
        assert_eq!(TABLE[10].reason, Internal);
    }
}
