//! One HTTP call: its body read within limits, its answer counted exactly once, whatever becomes of it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use http::header::{ALLOW, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, StatusCode};
use hyper::body::Body as _;

use crate::app::App;
use crate::http::cut_short;
use crate::json::writer;
use crate::metrics::Codes;
use crate::model::Served;
use crate::pool::Turn;
use crate::refusal::{Reason, Refusal};
use crate::wire::budget::Reserved;
use crate::wire::registry::{Entry, Verdict};

/// Whose form errors take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    Native,
    Oip,
    OpenAi,
}

impl Style {
    /// The protocol that a path belongs to.
    pub fn of_path(path: &str) -> Self {
        if path == "/v2" || path.starts_with("/v2/") {
            Style::Oip
        } else if path.starts_with("/v1/") {
            Style::OpenAi
        } else {
            Style::Native
        }
    }
}

/// A longest deadline, so that no number of a client can overflow the clock.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Above this many bytes a body is parsed (and its texts tokenized) in the pool; so are texts before which a prompt or a query
/// of more bytes in all stands. What is below takes a few milliseconds at worst: no more than 1365 texts, no more than 8192
/// characters.
const LARGE: usize = 4 << 10;

pub struct Call {
    pub app: Arc<App>,
    style: Style,
    start: Instant,
    /// The client's own deadline, where it gave one.
    deadline: Option<Duration>,
    request_id: Option<HeaderValue>,
    model: Option<Arc<Served>>,
    /// The body's memory; whoever works on the body holds it too.
    reserved: Option<Arc<Reserved>>,
    entry: Option<Arc<Entry>>,
    body_bytes: usize,
    done: bool,
}

impl Call {
    pub fn begin(app: &Arc<App>, style: Style, headers: &HeaderMap) -> Result<Self, Box<Response>> {
        let mut call = Call {
            app: Arc::clone(app),
            style,
            start: Instant::now(),
            deadline: None,
            request_id: headers.get("x-request-id").filter(|v| v.len() <= 256).cloned(),
            model: None,
            reserved: None,
            entry: None,
            body_bytes: 0,
            done: false,
        };
        match deadline_header(headers) {
            Ok(deadline) => call.deadline = deadline,
            Err(refusal) => return Err(Box::new(call.refuse(&refusal, None))),
        }
        Ok(call)
    }

    /// From now on the call is this model's: in metrics, headers and deadline.
    pub fn is_for(&mut self, model: &Arc<Served>) {
        self.model = Some(Arc::clone(model));
    }

    /// When the answer is due: the client's deadline, or else the model's own.
    pub fn due(&self) -> Instant {
        let default = self.model.as_ref().map_or_else(|| self.app.settings.seconds("deadline_s"), |m| m.deadline);
        self.start + self.deadline.unwrap_or(default).min(LONGEST)
    }

    /// The id of the client's header.
    pub fn header_id(&self) -> Option<&str> {
        self.request_id.as_ref().and_then(|v| v.to_str().ok())
    }

    /// Reads the JSON body: 415 for another type, 413 above the limit, 408 for a sender that is too slow.
    pub async fn body(&mut self, request: Request) -> Result<Bytes, Refusal> {
        self.body_of(request, false).await
    }

    /// Reads the body; with `binary` it may also be application/octet-stream.
    pub async fn body_of(&mut self, request: Request, binary: bool) -> Result<Bytes, Refusal> {
        let (parts, body) = request.into_parts();
        check_type(&parts.headers, binary)?;
        let most = self.app.max_body_bytes;
        let too_large = || Refusal::new(Reason::TooLarge, format!("the body is larger than {most} bytes"));
        let announced = parts.headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
        if announced.is_some_and(|n| n > most) {
            return Err(too_large());
        }
        let entry = parts.extensions.get::<Arc<Entry>>().cloned();
        let limit = self.app.settings.seconds("read_timeout_s");
        let bytes = match tokio::time::timeout(limit, collect(body, most, announced, entry.as_deref())).await {
            Err(_) => return Err(cut_short(Verdict::TooSlow)),
            Ok(Err(Broken::Cut(verdict))) => return Err(cut_short(verdict)),
            Ok(Err(Broken::TooLarge)) => return Err(too_large()),
            Ok(Err(Broken::Ended)) => return Err(Refusal::malformed("the body ended before its announced length")),
            Ok(Ok(bytes)) => bytes,
        };
        self.reserved = entry.as_ref().map(|entry| Arc::new(entry.body_is_read()));
        self.entry = entry;
        self.body_bytes = bytes.len();
        Ok(bytes)
    }

    /// Runs `work` on the body that was read: here, or in the pool where it would hold up other connections. Where the texts
    /// come to far more than the body, it begins again in a turn for that.
    pub async fn offload<T: Send + 'static>(
        &self,
        work: impl Fn(&Turn) -> Result<T, Refusal> + Clone + Send + 'static,
    ) -> Result<T, Refusal> {
        let (size, due) = (self.body_bytes, self.due());
        let texts = self.app.settings.count("max_inputs").unwrap_or(usize::MAX);
        let turn = |most| Turn::new(due, Some(Arc::clone(&self.app.registry.budget)), most, texts);
        let first = |turn: Turn, work: &dyn Fn(&Turn) -> Result<T, Refusal>| {
            let result = work(&turn);
            turn.asks().map_or(Ok(result), Err)
        };
        let tried = if size <= LARGE {
            first(turn(LARGE), &work)
        } else {
            let (turn, work) = (turn(size), work.clone());
            self.app.pool.run(size, due, self.reserved.clone(), move || Ok(first(turn, &work))).await?
        };
        match tried {
            Ok(result) => result,
            Err(more) => {
                // What it comes to is large, and so is its answer.
                self.entry.iter().for_each(|entry| entry.is_bulky_now());
                let turn = turn(usize::MAX);
                self.app.pool.run(size + more, due, self.reserved.clone(), move || work(&turn)).await
            }
        }
    }

    /// The answer with a JSON body.
    pub fn answer(&mut self, body: impl Into<Bytes>) -> Response {
        self.finish(StatusCode::OK, body.into(), None)
    }

    /// The answer with bytes behind its JSON, whose length goes into a header.
    pub fn answer_binary(&mut self, body: Bytes, length_header: &'static str, json_bytes: usize) -> Response {
        let mut response = self.finish(StatusCode::OK, body, None);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        headers.insert(length_header, HeaderValue::from(json_bytes));
        response
    }

    /// The refusal in the protocol's own form. `id` is the request's own, where it was read.
    pub fn refuse(&mut self, refusal: &Refusal, id: Option<&str>) -> Response {
        let status = StatusCode::from_u16(refusal.reason.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        self.finish(status, error_body(self.style, refusal, id).into(), refusal.retry_after())
    }

    fn finish(&mut self, status: StatusCode, body: Bytes, retry_after: Option<u32>) -> Response {
        self.done = true;
        self.codes().count(status.as_u16());
        if let Some(model) = &self.model {
            model.meters.request_duration.observe(self.start.elapsed().as_secs_f64());
        }
        let mut response = json_response(status, body);
        let headers = response.headers_mut();
        if let Some(seconds) = retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(id) = self.request_id.take() {
            headers.insert("x-request-id", id);
        }
        if let Some(model) = &self.model {
            for (name, value) in [("x-infc-digest", &*model.digest), ("x-infc-variant", model.variant.as_str())] {
                if let Ok(value) = HeaderValue::from_str(value) {
                    headers.insert(name, value);
                }
            }
        }
        response
    }

    fn codes(&self) -> &Codes {
        self.model.as_ref().map_or(&self.app.codes, |m| &m.meters.codes)
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.done {
            // The client closed its connection, or the handler panicked.
            self.codes().count(Reason::Cancelled.status());
        }
    }
}

/// A call whose answer is a body of JSON, and whose refusal has no id of the request's.
pub async fn answered<B: Into<Bytes>>(
    app: &Arc<App>,
    style: Style,
    request: Request,
    answer: impl AsyncFnOnce(&mut Call, Request) -> Result<B, Refusal>,
) -> Response {
    let mut call = match Call::begin(app, style, request.headers()) {
        Ok(call) => call,
        Err(response) => return *response,
    };
    match answer(&mut call, request).await {
        Ok(body) => call.answer(body),
        Err(refusal) => call.refuse(&refusal, None),
    }
}

pub fn json_response(status: StatusCode, body: impl Into<Bytes>) -> Response {
    let mut response = Response::new(Body::from(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, POST"));
    }
    response
}

/// The body of a refusal.
pub fn error_body(style: Style, refusal: &Refusal, id: Option<&str>) -> Vec<u8> {
    let mut out = Vec::with_capacity(160);
    match style {
        Style::Oip => {
            out.extend_from_slice(b"{\"error\":");
            writer::string(&mut out, &refusal.text());
        }
        Style::OpenAi => {
            out.extend_from_slice(b"{\"error\":{\"message\":");
            writer::string(&mut out, &refusal.text());
            out.extend_from_slice(b",\"type\":");
            writer::string(&mut out, refusal.reason.openai_type());
            out.extend_from_slice(b",\"param\":");
            optional(&mut out, refusal.field.as_deref());
            out.extend_from_slice(b",\"code\":");
            writer::string(&mut out, refusal.reason.code());
            out.push(b'}');
        }
        Style::Native => {
            out.extend_from_slice(b"{\"error\":{\"status\":");
            writer::integer(&mut out, u64::from(refusal.reason.status()));
            out.extend_from_slice(b",\"code\":");
            writer::string(&mut out, refusal.reason.code());
            out.extend_from_slice(b",\"field\":");
            optional(&mut out, refusal.field.as_deref());
            out.extend_from_slice(b",\"message\":");
            writer::string(&mut out, &refusal.text());
            out.push(b'}');
        }
    }
    if let Some(id) = id {
        out.extend_from_slice(b",\"id\":");
        writer::string(&mut out, id);
    }
    out.push(b'}');
    out
}

fn optional(out: &mut Vec<u8>, text: Option<&str>) {
    match text {
        Some(text) => writer::string(out, text),
        None => out.extend_from_slice(b"null"),
    }
}

/// The body as text, or 400.
pub fn utf8(body: &[u8]) -> Result<&str, Refusal> {
    std::str::from_utf8(body)
        .map_err(|e| Refusal::malformed(format!("the body is not UTF-8: byte {}", e.valid_up_to())))
}

enum Broken {
    Cut(Verdict),
    TooLarge,
    Ended,
}

/// The body in one piece: as it came where it is a single frame, which small ones are.
async fn collect(
    mut body: Body,
    most: usize,
    announced: Option<usize>,
    entry: Option<&Entry>,
) -> Result<Bytes, Broken> {
    let mut first = Bytes::new();
    let mut whole: Vec<u8> = Vec::new();
    loop {
        let frame = std::future::poll_fn(|cx| {
            // The verdict may also fall while this frame is being waited for.
            let frame = Pin::new(&mut body).poll_frame(cx);
            match entry.and_then(|e| e.verdict()) {
                Some(verdict) if frame.is_pending() => Poll::Ready(Err(Broken::Cut(verdict))),
                _ => frame.map(Ok),
            }
        })
        .await?;
        let data = match frame {
            None if whole.is_empty() => return Ok(first),
            None => return Ok(whole.into()),
            Some(Err(_)) => return Err(Broken::Ended),
            Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
        };
        let length = first.len().max(whole.len()) + data.len();
        if length > most {
            return Err(Broken::TooLarge);
        }
        if length == data.len() {
            first = data;
            continue;
        }
        // A large body that lies in the socket whole would keep this thread from everybody else's.
        tokio::task::yield_now().await;
        if whole.capacity() < length {
            // Memory grows with what has come, never with what is announced.
            let to = length.max(2 * whole.capacity()).min(announced.unwrap_or(most).max(length));
            whole.reserve_exact(to - whole.len());
        }
        whole.extend_from_slice(&first);
        first = Bytes::new();
        whole.extend_from_slice(&data);
    }
}

fn check_type(headers: &HeaderMap, binary: bool) -> Result<(), Refusal> {
    let all = |name, plain: &[u8]| headers.get_all(name).iter().all(|v| v.as_bytes().eq_ignore_ascii_case(plain));
    if !all(CONTENT_ENCODING, b"identity") || !all(TRANSFER_ENCODING, b"chunked") {
        return Err(Refusal::new(Reason::MediaType, "compressed bodies are not accepted"));
    }
    for found in headers.get_all(CONTENT_TYPE) {
        let essence = found.as_bytes().split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
        let allowed = binary && essence.eq_ignore_ascii_case(b"application/octet-stream");
        if !allowed && !essence.eq_ignore_ascii_case(b"application/json") {
            let shown = String::from_utf8_lossy(essence).chars().take(64).collect::<String>();
            let text = format!("the content type is {shown:?}; expected application/json");
            return Err(Refusal::new(Reason::MediaType, text));
        }
    }
    Ok(())
}

fn deadline_header(headers: &HeaderMap) -> Result<Option<Duration>, Refusal> {
    const NAME: &str = "x-request-deadline-ms";
    let mut values = headers.get_all(NAME).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Refusal { field: Some(NAME.into()), ..Refusal::malformed("expected once") });
    }
    let number =
        value.to_str().ok().and_then(|v| v.trim().parse::<f64>().ok()).filter(|ms| ms.is_finite() && *ms >= 0.0);
    match number {
        Some(ms) => Ok(Some(Duration::from_secs_f64((ms / 1000.0).min(LONGEST.as_secs_f64())))),
        None => {
            let mut refusal = Refusal::malformed("expected a number of milliseconds");
            refusal.field = Some(NAME.into());
            Err(refusal)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(k, v)| (http::HeaderName::from_static(k), HeaderValue::from_str(v).unwrap())).collect()
    }

    #[test]
    fn types_and_encodings_are_checked() {
        for good in ["application/json", "Application/JSON; charset=utf-8"] {
            assert!(check_type(&headers(&[("content-type", good)]), false).is_ok());
        }
        assert_eq!(
            check_type(&headers(&[("content-type", "text/plain")]), false).unwrap_err().reason,
            Reason::MediaType
        );
        assert_eq!(check_type(&headers(&[("content-encoding", "gzip")]), false).unwrap_err().reason, Reason::MediaType);
    }

    #[test]
    fn deadlines_are_bounded_numbers() {
        let read = |v| deadline_header(&headers(&[("x-request-deadline-ms", v)]));
        assert_eq!(read("250").unwrap(), Some(Duration::from_millis(250)));
        assert_eq!(read("1e300").unwrap(), Some(LONGEST));
        for bad in ["-1", "NaN", "soon", "inf"] {
            assert_eq!(read(bad).unwrap_err().reason, Reason::Malformed);
        }
    }

    #[test]
    fn each_protocol_has_its_own_error_form() {
        let refusal = Refusal::invalid("features[0]", "no \"good\"");
        let text = |style| String::from_utf8(error_body(style, &refusal, Some("7"))).unwrap();
        assert_eq!(text(Style::Oip), r#"{"error":"features[0]: no \"good\"","id":"7"}"#);
        for style in [Style::OpenAi, Style::Native] {
            let json: serde_json::Value = serde_json::from_str(&text(style)).unwrap();
            assert_eq!(json["error"]["message"], "features[0]: no \"good\"");
            assert_eq!(json["error"]["code"], "invalid");
        }
    }
}
