//! The keys that sign bearer tokens: made at first start, kept in the database, rotated on request.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use tokio::sync::Mutex;

use super::LIFETIME;
use super::secrets::random_hex;
use crate::metadata::{MetadataError, MetadataStore, SigningKeyRow, as_ms, now_ms};

/// The one algorithm that new keys are for.
const ALGORITHM: &str = "ES256";

/// How long a key verifies after it was retired: as long as its tokens last, and the time in which a server may
/// not have noticed and still signs with it.
pub const AFTERLIFE: Duration = LIFETIME.saturating_add(Duration::from_secs(60));

/// Keys are read this often at most.
const READ_EVERY: Duration = Duration::from_secs(1);

/// Why there is no usable key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The system could not make a key.
    #[error("no signing key could be made")]
    Generate,
    /// A stored key cannot be read.
    #[error("signing key `{0}` in the database is not usable: run `cove-server key rotate`")]
    Unusable(String),
    /// The database did not answer.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
}

/// A key that verifies, and the only algorithm that it does so with.
pub(super) struct VerifyingKey {
    pub(super) id: String,
    pub(super) algorithm: Algorithm,
    pub(super) key: DecodingKey,
    /// Nothing that it signed is still valid after this time.
    ended_ms: Option<i64>,
}

/// The keys in use.
pub(super) struct KeySet {
    pub(super) signing_id: String,
    pub(super) signing_algorithm: Algorithm,
    pub(super) signing: EncodingKey,
    pub(super) verifying: Vec<VerifyingKey>,
}

/// The keys in use, read again for every token that is issued and when a token names one that is not known:
/// another program may have rotated them.
pub struct SigningKeys {
    store: MetadataStore,
    current: ArcSwap<KeySet>,
    /// Since when they are as they are, so that made-up key ids do not cause a query each.
    read: Mutex<Instant>,
}

impl SigningKeys {
    /// Reads the keys; makes the first one.
    pub async fn open(store: MetadataStore) -> Result<Self, KeyError> {
        store.add_signing_key(&new_signing_key()?, true, as_ms(AFTERLIFE)).await?;
        let read = Instant::now();
        let current = ArcSwap::from_pointee(KeySet::read(&store).await?);
        Ok(SigningKeys { store, current, read: Mutex::new(read) })
    }

    pub(super) fn current(&self) -> Arc<KeySet> {
        self.current.load_full()
    }

    /// Reads the keys again, unless that was done a moment ago: so a rotation is followed within a second.
    pub(super) async fn follow(&self) -> Result<(), KeyError> {
        let mut read = self.read.lock().await;
        if read.elapsed() >= READ_EVERY {
            self.read_again(&mut read).await?;
        }
        Ok(())
    }

    /// Makes sure that the keys are not older than this call: another server may just have signed with a new one.
    /// Waits where they were read a moment ago, so that made-up key ids cost time and not queries.
    pub(super) async fn reload(&self) -> Result<(), KeyError> {
        let asked = Instant::now();
        loop {
            let pause = {
                let mut read = self.read.lock().await;
                if *read >= asked {
                    return Ok(());
                }
                if read.elapsed() >= READ_EVERY {
                    return self.read_again(&mut read).await;
                }
                READ_EVERY.saturating_sub(read.elapsed())
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Reads the keys again. Called now and then, so that a retired key does not verify for ever.
    pub async fn refresh(&self) -> Result<(), KeyError> {
        let mut read = self.read.lock().await;
        self.read_again(&mut read).await
    }

    async fn read_again(&self, read: &mut Instant) -> Result<(), KeyError> {
        let now = Instant::now();
        self.current.store(Arc::new(KeySet::read(&self.store).await?));
        *read = now;
        Ok(())
    }
}

impl KeySet {
    async fn read(store: &MetadataStore) -> Result<Self, KeyError> {
        let rows = store.signing_keys().await?;
        let unusable = |row: &SigningKeyRow| KeyError::Unusable(row.id.clone());
        let algorithm = |row: &SigningKeyRow| row.algorithm.parse::<Algorithm>().map_err(|_| unusable(row));
        let mut verifying = Vec::new();
        for row in &rows {
            let key = DecodingKey::from_ec_components(&row.public_x, &row.public_y).map_err(|_| unusable(row))?;
            let ended_ms = row.retired_ms.map(|retired| retired + as_ms(AFTERLIFE));
            verifying.push(VerifyingKey { id: row.id.clone(), algorithm: algorithm(row)?, key, ended_ms });
        }
        let signing = rows.iter().find(|row| row.retired_ms.is_none()).ok_or(KeyError::Generate)?;
        let private = STANDARD.decode(&signing.private_key).map_err(|_| unusable(signing))?;
        Ok(KeySet {
            signing_id: signing.id.clone(),
            signing_algorithm: algorithm(signing)?,
            signing: EncodingKey::from_ec_der(&private),
            verifying,
        })
    }

    /// The key of that id, unless it has ended.
    pub(super) fn verifying(&self, id: &str) -> Option<&VerifyingKey> {
        let now = now_ms();
        self.verifying.iter().find(|key| key.id == id && key.ended_ms.is_none_or(|ended| now < ended))
    }
}

/// Makes a key.
pub fn new_signing_key() -> Result<SigningKeyRow, KeyError> {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(|_| KeyError::Generate)?;
    let private = pair.to_pkcs8v1().map_err(|_| KeyError::Generate)?;
    // An uncompressed point: 4, x, y (SEC 1, section 2.3.3).
    let point = pair.public_key().as_ref();
    let (x, y) = point.get(1..33).zip(point.get(33..65)).ok_or(KeyError::Generate)?;
    Ok(SigningKeyRow {
        id: random_hex(),
        algorithm: ALGORITHM.to_owned(),
        private_key: STANDARD.encode(private.as_ref()),
        public_x: URL_SAFE_NO_PAD.encode(x),
        public_y: URL_SAFE_NO_PAD.encode(y),
        retired_ms: None,
    })
}

/// The public keys as a JSON Web Key Set (RFC 7517).
pub fn jwks(keys: &[SigningKeyRow]) -> serde_json::Value {
    let key = |key: &SigningKeyRow| {
        serde_json::json!({
            "kty": "EC", "crv": "P-256", "use": "sig", "alg": key.algorithm, "kid": key.id,
            "x": key.public_x, "y": key.public_y,
        })
    };
    serde_json::json!({ "keys": keys.iter().map(key).collect::<Vec<_>>() })
}
