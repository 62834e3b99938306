use std::fmt;

use reqwest::header::HeaderValue;

use super::TransportError;

/// A bearer token. It is not shown when printed.
///
/// ```
/// use erlmcp_shm_client::transport::Token;
///
/// assert_eq!(format!("{:?}", Token::from("secret")), "Token(..)");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }

    /// The value of the `Authorization` header.
    pub(super) fn header(&self) -> Result<HeaderValue, TransportError> {
        let mut value = HeaderValue::try_from(format!("Bearer {}", self.0))
            .map_err(|_| TransportError::BadToken)?;
        value.set_sensitive(true);
        Ok(value)
    }
}

impl<T: Into<String>> From<T> for Token {
    fn from(token: T) -> Self {
        Self(token.into())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}
