//! An event stream, by the rules of WHATWG: <https://html.spec.whatwg.org/multipage/server-sent-events.html>.

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream::BoxStream};
use reqwest::Response;
use sse_stream::{Sse, SseByteStream};

use crate::transport::TransportError;

/// Blocks as they come, each of fields; see [`dispatched`].
pub(super) type Events = BoxStream<'static, Result<Sse, TransportError>>;

/// The events of a response, of at most `limit` bytes each.
pub(super) fn of(response: Response, limit: usize) -> Events {
    let mut bound = Bound::new(limit);
    let mut utf8 = Utf8::default();
    let bytes = response.bytes_stream().map(move |chunk| {
        let chunk = chunk.map_err(TransportError::Http)?;
        bound.check(&chunk)?;
        Ok::<_, TransportError>(utf8.decode(chunk))
    });
    SseByteStream::new(bytes)
        .map_err(|error| match error {
            sse_stream::Error::Body(error) => match error.downcast() {
                Ok(error) => *error,
                Err(error) => TransportError::EventStream(sse_stream::Error::Body(error)),
            },
            error => TransportError::EventStream(error),
        })
        .boxed()
}

/// Type and data of a block that is an event: one without data is none, whatever else it says.
pub(super) fn dispatched(block: &Sse) -> Option<(&str, &str)> {
    let data = block.data.as_deref()?;
    let kind = block.event.as_deref().filter(|kind| !kind.is_empty());
    Some((kind.unwrap_or("message"), data))
}

/// An event stream is UTF-8, and what is none is replaced; the parser would end the stream there.
#[derive(Default)]
struct Utf8 {
    /// The beginning of a character whose end has not come yet.
    rest: Vec<u8>,
}

impl Utf8 {
    fn decode(&mut self, chunk: Bytes) -> Bytes {
        if self.rest.is_empty() && std::str::from_utf8(&chunk).is_ok() {
            return chunk;
        }
        let mut bytes = std::mem::take(&mut self.rest);
        bytes.extend_from_slice(&chunk);
        let mut text = String::with_capacity(bytes.len());
        let mut parts = bytes.utf8_chunks().peekable();
        while let Some(part) = parts.next() {
            text.push_str(part.valid());
            let cut = |error: std::str::Utf8Error| error.error_len().is_none();
            if parts.peek().is_none() && std::str::from_utf8(part.invalid()).is_err_and(cut) {
                self.rest = part.invalid().to_vec();
            } else if !part.invalid().is_empty() {
                text.push(char::REPLACEMENT_CHARACTER);
            }
        }
        text.into()
    }
}

/// The parser holds an event until the empty line that ends it: this counts what it holds.
struct Bound {
    limit: usize,
    held: usize,
    line_is_empty: bool,
    after_cr: bool,
}

impl Bound {
    fn new(limit: usize) -> Self {
        Self {
            limit,
            held: 0,
            line_is_empty: true,
            after_cr: false,
        }
    }

    fn check(&mut self, bytes: &[u8]) -> Result<(), TransportError> {
        for &byte in bytes {
            match byte {
                b'\n' if self.after_cr => self.after_cr = false,
                b'\n' | b'\r' => {
                    self.after_cr = byte == b'\r';
                    if self.line_is_empty {
                        self.held = 0;
                    }
                    self.line_is_empty = true;
                }
                _ => {
                    (self.after_cr, self.line_is_empty) = (false, false);
                    self.held += 1;
                    if self.held > self.limit {
                        return Err(TransportError::TooLarge { limit: self.limit });
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_bounded_whatever_ends_its_lines() {
        for newline in ["\n", "\r", "\r\n"] {
            let mut bound = Bound::new(10);
            let event = format!("data: 1234{newline}{newline}");
            for byte in event.repeat(3).as_bytes() {
                bound.check(&[*byte]).unwrap();
            }
            let long = format!("data: 1{newline}data: 2{newline}{newline}");
            assert!(bound.check(long.as_bytes()).is_err(), "{newline:?}");
        }
    }

    #[test]
    fn text_that_is_none_is_replaced_however_it_is_cut() {
        let bytes = b"a\xff \xc3\xa9 \xe2\x82 \xf0\x9f\x98\x80 \xed\xa0\x80z";
        let whole = String::from_utf8_lossy(bytes).into_owned();
        for size in 1..=bytes.len() {
            let mut utf8 = Utf8::default();
            let cut = bytes
                .chunks(size)
                .map(|chunk| utf8.decode(chunk.to_vec().into()));
            let text: Vec<u8> = cut.flatten().collect();
            assert_eq!(
                String::from_utf8(text).unwrap(),
                whole,
                "in pieces of {size}"
            );
        }
    }
}
