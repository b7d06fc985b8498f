//! The body of an export: the next piece is made when the one before has been taken, on a thread where reading may block.
//!
//! So a slow reader costs one piece of memory and its view, and an export that nobody reads on stands still.

use super::aggregates::Export;
use super::error::ApiError;
use axum::body::{Bytes, HttpBody};
use hyper::body::Frame;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::{JoinHandle, spawn_blocking};

type Piece = (Box<Export>, Result<Option<Vec<u8>>, ApiError>);

/// An export as a body.
pub(super) struct ExportBody {
    making: Option<JoinHandle<Piece>>,
    _permit: OwnedSemaphorePermit,
}

impl ExportBody {
    /// Begins with the first piece. Call inside a runtime.
    pub(super) fn new(export: Export, permit: OwnedSemaphorePermit) -> Self {
        Self { making: Some(make(Box::new(export))), _permit: permit }
    }
}

fn make(mut export: Box<Export>) -> JoinHandle<Piece> {
    spawn_blocking(move || {
        let piece = export.next_piece();
        (export, piece)
    })
}

impl HttpBody for ExportBody {
    type Data = Bytes;
    type Error = ApiError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ApiError>>> {
        let Some(making) = &mut self.making else { return Poll::Ready(None) };
        let made = ready!(Pin::new(making).poll(context));
        self.making = None;
        Poll::Ready(match made {
            Ok((export, Ok(Some(piece)))) => {
                self.making = Some(make(export));
                Some(Ok(Frame::data(piece.into())))
            }
            Ok((_, Ok(None))) => None,
            Ok((_, Err(error))) => Some(Err(error)),
            Err(error) => Some(Err(ApiError::Internal(error.to_string()))),
        })
    }
}
