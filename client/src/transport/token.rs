use reqwest::header::HeaderValue;

use super::TransportError;
use crate::config::Token;

/// The value of the `Authorization` header.
pub(super) fn bearer(token: &Token) -> Result<HeaderValue, TransportError> {
    let mut value = HeaderValue::try_from(format!("Bearer {}", token.expose()))
        .map_err(|_| TransportError::BadToken)?;
    value.set_sensitive(true);
    Ok(value)
}
