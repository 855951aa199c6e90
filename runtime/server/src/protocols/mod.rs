//! The protocols: one file each, all over the same models; what they share is in [`call`].

pub mod call;
mod embeddings;
mod fields;
#[cfg(test)]
mod fuzz;
pub mod native;
pub mod oip;
mod once;
pub mod openai;
pub mod plain;
mod rerank;
mod scores;
pub mod tags;
mod tei;
mod texts;
mod tokens;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};

use crate::app::App;

/// All routes of the protocols that the settings name. The native one and health are always there.
pub fn router(app: Arc<App>) -> Router {
    let declared = app.settings.protocols();
    let has = |name: &str| declared.iter().any(|p| p == name);
    let mut router = Router::new()
        .route("/infer", post(native::infer))
        .route("/rerank", post(rerank::rerank))
        .route("/v1/rerank", post(rerank::rerank))
        .route("/v2/rerank", post(rerank::rerank))
        .route("/embed", post(tei::embed))
        .route("/predict", post(tei::predict))
        .route("/info", get(tei::info))
        .route("/tokenize", post(tokens::tokenize))
        .route("/detokenize", post(tokens::detokenize))
        .route("/decode", post(tokens::decode))
        .route("/health", get(plain::ready))
        .route("/health/live", get(plain::live))
        .route("/health/ready", get(plain::ready))
        .route("/v2/health/live", get(plain::live))
        .route("/v2/health/ready", get(plain::ready));
    if app.settings.port("metrics_port").is_none() {
        router = router.route("/metrics", get(plain::metrics));
    }
    if has("kserve") {
        router = router
            .route("/v2", get(oip::server))
            .route("/v2/", get(oip::server))
            .route("/v2/models/{model}", get(oip::metadata))
            .route("/v2/models/{model}/ready", get(oip::ready))
            .route("/v2/models/{model}/stats", get(oip::stats))
            .route("/v2/models/{model}/infer", post(oip::infer))
            .route("/v2/models/{model}/versions/{version}", get(oip::metadata))
            .route("/v2/models/{model}/versions/{version}/ready", get(oip::ready))
            .route("/v2/models/{model}/versions/{version}/stats", get(oip::stats))
            .route("/v2/models/{model}/versions/{version}/infer", post(oip::infer));
    }
    if has("openai") {
        router = router
            .route("/v1/models", get(openai::models))
            .route("/v1/models/{model}", get(openai::model))
            .route("/v1/embeddings", post(openai::embeddings));
    }
    router.fallback(plain::unknown_path).method_not_allowed_fallback(plain::wrong_method).with_state(app)
}

/// The routes of the separate listener for metrics, and health as well: it answers whatever the load on the other.
pub fn metrics_router(app: Arc<App>) -> Router {
    Router::new()
        .route("/metrics", get(plain::metrics))
        .route("/health/live", get(plain::live))
        .route("/health/ready", get(plain::ready))
        .route("/v2/health/live", get(plain::live))
        .route("/v2/health/ready", get(plain::ready))
        .fallback(plain::unknown_path)
        .method_not_allowed_fallback(plain::wrong_method)
        .with_state(app)
}
