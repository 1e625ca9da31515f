//! Who is asking, and what they may do.
//!
//! A credential (password, personal access token, refresh token, bearer token) leads to a [`Principal`]; what
//! the principal may do is decided by [`rights::may`], on facts that are looked up for every request.

mod bearer;
mod ceiling;
mod keys;
mod names;
mod passwords;
mod principal;
pub mod rights;
mod secrets;

pub use bearer::{Access, BearerError, Claims, LIFETIME, SERVICE};
pub use ceiling::{Ceiling, Pattern, PatternError};
pub use keys::{AFTERLIFE as KEY_AFTERLIFE, KeyError, SigningKeys, jwks, new_signing_key};
pub use names::{AccountNameError, check_account_name};
pub use passwords::{Passwords, TooManyLogins, WEAK_PASSWORD_LENGTH, hash_password};
pub use principal::{Authenticator, Credential, LoginError, Principal};
pub use secrets::{PERSONAL_PREFIX, REFRESH_PREFIX, new_secret, random_hex, random_password, secret_hash};
