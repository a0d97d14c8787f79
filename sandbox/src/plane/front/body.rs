//! What the front answers with: words of its own, or an upstream's body as it comes, cut off at the request's
//! deadline. A body read to its end gives its connection back.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::SendRequest;
use hyper::{Response, StatusCode, header};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::plane::front::pool::Seat;

/// A response body of the front.
pub(crate) enum FrontBody {
    /// The front's own text.
    Text(Option<Bytes>),
    /// An upstream's.
    Upstream(Box<UpstreamBody>),
}

pub(crate) struct UpstreamBody {
    inner: Incoming,
    sender: Option<SendRequest<RequestBody>>,
    seat: Seat,
    deadline: Instant,
    /// Made when the body first makes us wait; most never do.
    alarm: Option<Pin<Box<Sleep>>>,
}

/// What goes to an upstream. Having none is a case of its own: such a request can be sent again.
#[derive(Debug)]
pub(crate) enum RequestBody {
    /// No body.
    Empty,
    /// The client's, as it comes.
    Client(Incoming),
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Client(body) => Pin::new(body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Client(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Client(body) => body.size_hint(),
        }
    }
}

impl FrontBody {
    /// A response of the front itself, as Envoy words it.
    pub(crate) fn say(status: StatusCode, text: &'static str) -> Response<Self> {
        let mut response = Response::new(Self::Text((!text.is_empty()).then(|| Bytes::from_static(text.as_bytes()))));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::SERVER, header::HeaderValue::from_static("envoy"));
        if !text.is_empty() {
            headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain"));
        }
        response
    }

    pub(crate) fn upstream(inner: Incoming, sender: SendRequest<RequestBody>, seat: Seat, deadline: Instant) -> Self {
        Self::Upstream(Box::new(UpstreamBody { inner, sender: Some(sender), seat, deadline, alarm: None }))
    }

    pub(crate) fn empty() -> Self {
        Self::Text(None)
    }
}

impl Body for FrontBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        match self.get_mut() {
            Self::Text(text) => Poll::Ready(text.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Upstream(body) => body.poll(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Text(text) => text.is_none(),
            Self::Upstream(body) => body.inner.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Text(text) => SizeHint::with_exact(text.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Upstream(body) => body.inner.size_hint(),
        }
    }
}

impl UpstreamBody {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match Pin::new(&mut self.inner).poll_frame(context) {
            Poll::Ready(frame) => {
                if frame.is_none() {
                    self.give_back();
                }
                Poll::Ready(frame.map(|frame| frame.map_err(io::Error::other)))
            }
            Poll::Pending => {
                let deadline = self.deadline;
                let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
                std::task::ready!(alarm.as_mut().poll(context));
                Poll::Ready(Some(Err(io::Error::new(io::ErrorKind::TimedOut, "the request took too long"))))
            }
        }
    }

    fn give_back(&mut self) {
        if let Some(sender) = self.sender.take() {
            self.seat.upstream().keep(sender);
        }
    }
}

impl Drop for UpstreamBody {
    fn drop(&mut self) {
        // Not at its end: the connection is in the middle of a response and must not be used again.
        if self.inner.is_end_stream() {
            self.give_back();
        }
    }
}
