//! The files of the page, which are compiled in. The page uses the API as any other client does.

use std::sync::Arc;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;

use super::App;

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

const FILES: [(&str, &str, &str); 17] = [
    ("/", HTML, include_str!("page/index.html")),
    ("/page.css", CSS, include_str!("page/page.css")),
    ("/icon.svg", "image/svg+xml", include_str!("page/icon.svg")),
    ("/page.js", JAVASCRIPT, include_str!("page/page.js")),
    ("/about.js", JAVASCRIPT, include_str!("page/about.js")),
    ("/chart.js", JAVASCRIPT, include_str!("page/chart.js")),
    ("/crashes.js", JAVASCRIPT, include_str!("page/crashes.js")),
    ("/element.js", JAVASCRIPT, include_str!("page/element.js")),
    ("/history.js", JAVASCRIPT, include_str!("page/history.js")),
    ("/login.js", JAVASCRIPT, include_str!("page/login.js")),
    ("/processes.js", JAVASCRIPT, include_str!("page/processes.js")),
    ("/report.js", JAVASCRIPT, include_str!("page/report.js")),
    ("/server.js", JAVASCRIPT, include_str!("page/server.js")),
    ("/state.js", JAVASCRIPT, include_str!("page/state.js")),
    ("/switches.js", JAVASCRIPT, include_str!("page/switches.js")),
    ("/version.js", JAVASCRIPT, include_str!("page/version.js")),
    ("/words.js", JAVASCRIPT, include_str!("page/words.js")),
];

/// The routes of these files.
pub(super) fn routes() -> Router<Arc<App>> {
    FILES.into_iter().fold(Router::new(), |routes, (path, media_type, text)| {
        routes.route(path, get(async move || ([(CONTENT_TYPE, media_type)], text)))
    })
}
