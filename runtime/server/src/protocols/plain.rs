//! Health, metrics, and paths that are not there.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};

use super::call::{Call, Style, error_body, json_response};
use crate::app::App;
use crate::refusal::{Reason, Refusal};

/// Alive: the process answers.
pub async fn live() -> Response {
    json_response(StatusCode::OK, br#"{"live":true}"#.to_vec())
}

/// Ready: digests and known answers were right, and the server is not stopping.
pub async fn ready(State(app): State<Arc<App>>) -> Response {
    if app.is_ready() {
        json_response(StatusCode::OK, br#"{"ready":true}"#.to_vec())
    } else {
        json_response(StatusCode::SERVICE_UNAVAILABLE, br#"{"ready":false}"#.to_vec())
    }
}

pub async fn metrics(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    let accept = headers.get(ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or("");
    match app.metrics.render(accept.contains("application/openmetrics-text")) {
        Ok((text, kind)) => {
            let mut response = Response::new(text.into());
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
            response
        }
        Err(_) => {
            json_response(StatusCode::INTERNAL_SERVER_ERROR, error_body(Style::Native, &Refusal::internal(), None))
        }
    }
}

pub async fn unknown_path(State(app): State<Arc<App>>, request: Request) -> Response {
    refuse(&app, &request, Refusal::new(Reason::UnknownPath, "there is nothing at this path"))
}

pub async fn wrong_method(State(app): State<Arc<App>>, request: Request) -> Response {
    refuse(&app, &request, Refusal::new(Reason::Method, "this path takes another method"))
}

fn refuse(app: &Arc<App>, request: &Request, refusal: Refusal) -> Response {
    match Call::begin(app, Style::of_path(request.uri().path()), request.headers()) {
        Ok(mut call) => call.refuse(&refusal, None),
        Err(response) => *response,
    }
}
