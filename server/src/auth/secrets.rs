//! Random secrets. Tokens have 256 random bits, so a plain hash is enough to store them.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

/// How a personal access token begins.
pub const PERSONAL_PREFIX: &str = "cove_pat_";
/// How a refresh token begins.
pub const REFRESH_PREFIX: &str = "cove_rt_";

/// A new token with the given prefix.
pub fn new_secret(prefix: &str) -> String {
    format!("{prefix}{}", URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>()))
}

/// A password for the first administrator: 120 bits, readable.
pub fn random_password() -> String {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; 15]>())
}

/// 128 random bits in hexadecimal: ids that nobody can guess.
pub fn random_hex() -> String {
    hex::encode(rand::random::<[u8; 16]>())
}

/// What of a token is stored and looked up.
pub fn secret_hash(secret: &str) -> String {
    hex::encode(Sha256::digest(secret.as_bytes()))
}
