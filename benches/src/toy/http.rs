//! HTTP/1.1 over TLS: the last part of a path in a set, or not.

use std::{collections::HashSet, convert::Infallible, io, sync::Arc};

use http_body_util::Empty;
use hyper::{Request, Response, StatusCode, body::Bytes, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;

use super::{Options, tls};

pub(super) async fn serve(options: Options) -> io::Result<()> {
    let tokens: Arc<HashSet<String>> = Arc::new(options.token.into_iter().collect());
    let (listener, acceptor) = tls::listen().await?;
    loop {
        let (stream, _) = listener.accept().await?;
        let (tokens, acceptor) = (Arc::clone(&tokens), acceptor.clone());
        tokio::spawn(async move {
            let Ok(stream) = tls::accept(&acceptor, stream).await else { return };
            let service = service_fn(|request: Request<hyper::body::Incoming>| {
                let known =
                    request.uri().path().rsplit('/').next().is_some_and(|token| tokens.contains(token));
                async move {
                    let mut answer = Response::new(Empty::<Bytes>::new());
                    *answer.status_mut() = if known { StatusCode::NO_CONTENT } else { StatusCode::NOT_FOUND };
                    Ok::<_, Infallible>(answer)
                }
            });
            // Whoever hangs up is gone.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}
