//! Settings: a flag, else a `COVE_…` variable, else the TOML file, else a default; checked once, at start.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use clap::builder::BoolishValueParser;
use ipnet::IpNet;
use serde::Deserialize;
use serde::de::Error as _;

use crate::blobs::CloudSettings;
use crate::metadata::Visibility;

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The settings file could not be read.
    #[error("the settings file could not be read: {0}")]
    Read(#[from] std::io::Error),
    /// The settings file is not what it should be.
    #[error("the settings file `{}` is not valid: {error}", path.display())]
    Toml {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: Box<toml::de::Error>,
    },
    /// Accounts may be left out only where nobody else can reach the server.
    #[error("--no-auth works on a loopback address only, and {0} is none: listen on 127.0.0.1, or leave --no-auth out")]
    OpenToAll(SocketAddr),
    /// Half of a pair.
    #[error("--tls-certificate and --tls-key belong together: give both")]
    HalfTls,
    /// The URL under which clients reach the server is none.
    #[error(
        "--public-url `{0}` must begin with http:// or https:// and have no path, such as https://registry.example.com"
    )]
    PublicUrl(String),
}

/// Where the state is. These settings are for the commands too.
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Settings {
    /// Folder for the embedded database and blobs [default: ./cove-data]
    #[arg(long, env = "COVE_DATA", value_name = "DIR", global = true, help_heading = "State")]
    pub data: Option<PathBuf>,
    /// Database: sqlite:///PATH or postgres://USER:PASSWORD@HOST/NAME [default: sqlite in the data folder]
    #[arg(
        long,
        env = "COVE_DATABASE",
        value_name = "URL",
        global = true,
        hide_env_values = true,
        help_heading = "State"
    )]
    pub database: Option<String>,
    /// Blobs: file:///PATH, s3://BUCKET[/PREFIX], gs://… or az://… [default: a folder in the data folder]
    #[arg(long, env = "COVE_BLOBS", value_name = "URL", global = true, help_heading = "State")]
    pub blobs: Option<String>,
    /// S3 end point other than Amazon's, such as http://127.0.0.1:9000 (path style)
    #[arg(long, env = "COVE_S3_ENDPOINT", value_name = "URL", global = true, help_heading = "State")]
    pub s3_endpoint: Option<String>,
    /// S3 region
    #[arg(long, env = "COVE_S3_REGION", value_name = "NAME", global = true, help_heading = "State")]
    pub s3_region: Option<String>,
    /// S3 access key [default: as the AWS tools find it]
    #[arg(
        long,
        env = "COVE_S3_ACCESS_KEY",
        value_name = "KEY",
        global = true,
        hide_env_values = true,
        help_heading = "State"
    )]
    pub s3_access_key: Option<String>,
    /// S3 secret key; better as a variable or in the file, where other users cannot see it
    #[arg(
        long,
        env = "COVE_S3_SECRET_KEY",
        value_name = "KEY",
        global = true,
        hide_env_values = true,
        help_heading = "State"
    )]
    pub s3_secret_key: Option<String>,
    /// With an S3 end point, put the bucket into the host name
    #[arg(long, env = "COVE_S3_VIRTUAL_HOST_STYLE", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "false", value_parser = BoolishValueParser::new(), global = true, help_heading = "State")]
    pub s3_virtual_host_style: Option<bool>,

    /// Address to listen on [default: 127.0.0.1:5000]
    #[arg(long, env = "COVE_LISTEN", value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// URL under which clients reach the server, where it cannot know it from their requests
    #[arg(long, env = "COVE_PUBLIC_URL", value_name = "URL")]
    pub public_url: Option<String>,
    /// Address or network of a reverse proxy whose X-Forwarded-… headers are believed; may be repeated
    #[arg(long, env = "COVE_TRUSTED_PROXY", value_name = "NETWORK", value_delimiter = ',', value_parser = parse_network)]
    #[serde(deserialize_with = "networks")]
    pub trusted_proxy: Vec<IpNet>,
    /// Certificate chain in PEM; read again when it changes
    #[arg(long, env = "COVE_TLS_CERTIFICATE", value_name = "FILE")]
    pub tls_certificate: Option<PathBuf>,
    /// Private key in PEM
    #[arg(long, env = "COVE_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// No accounts: everybody may do everything; loopback addresses only
    #[arg(long, env = "COVE_NO_AUTH", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "false", value_parser = BoolishValueParser::new())]
    pub no_auth: Option<bool>,
    /// Password of the administrator `admin` at the first start [default: a random one, printed once]
    #[arg(skip)]
    pub admin_password: Option<String>,
    /// Visibility of repositories that a push makes [default: private]
    #[arg(long, env = "COVE_DEFAULT_VISIBILITY", value_name = "VISIBILITY")]
    pub default_visibility: Option<Visibility>,
    /// Accept image manifests whose blobs are not here
    #[arg(long, env = "COVE_SPARSE_IMAGES", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "false", value_parser = BoolishValueParser::new())]
    pub sparse_images: Option<bool>,
    /// How long unused content is kept [default: 24h]
    #[arg(long, env = "COVE_GC_GRACE", value_name = "TIME", value_parser = humantime::parse_duration)]
    #[serde(deserialize_with = "duration")]
    pub gc_grace: Option<Duration>,
    /// How long an upload without progress is kept [default: 24h]
    #[arg(long, env = "COVE_UPLOAD_EXPIRY", value_name = "TIME", value_parser = humantime::parse_duration)]
    #[serde(deserialize_with = "duration")]
    pub upload_expiry: Option<Duration>,
    /// How long a connection may stand still in the middle of a request [default: 60s]
    #[arg(long, env = "COVE_IDLE_TIMEOUT", value_name = "TIME", value_parser = humantime::parse_duration)]
    #[serde(deserialize_with = "duration")]
    pub idle_timeout: Option<Duration>,
    /// How long running requests may take when the server stops [default: 30s]
    #[arg(long, env = "COVE_STOP_TIMEOUT", value_name = "TIME", value_parser = humantime::parse_duration)]
    #[serde(deserialize_with = "duration")]
    pub stop_timeout: Option<Duration>,
    /// What is logged, such as info, debug or cove_server=trace [default: info]
    #[arg(long, env = "COVE_LOG", value_name = "FILTER")]
    pub log: Option<String>,
    /// How it is logged [default: text on a terminal, json elsewhere]
    #[arg(long, env = "COVE_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
}

/// Form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs, one object a line.
    Json,
}

/// The environment variable with the administrator's first password. Not a flag: flags can be seen by others.
const ADMIN_PASSWORD: &str = "COVE_ADMIN_PASSWORD";

impl Settings {
    /// What the flags and variables leave open comes from the file, if there is one.
    pub fn complete(mut self, file: Option<&Path>) -> Result<Self, SettingsError> {
        self.admin_password = std::env::var(ADMIN_PASSWORD).ok().filter(|password| !password.is_empty());
        let Some(path) = file else { return Ok(self) };
        let text = fs_err::read_to_string(path)?;
        let from_file: Settings = toml::from_str(&text)
            .map_err(|error| SettingsError::Toml { path: path.to_owned(), error: Box::new(error) })?;
        Ok(self.or(from_file))
    }

    fn or(self, other: Settings) -> Settings {
        Settings {
            data: self.data.or(other.data),
            database: self.database.or(other.database),
            blobs: self.blobs.or(other.blobs),
            s3_endpoint: self.s3_endpoint.or(other.s3_endpoint),
            s3_region: self.s3_region.or(other.s3_region),
            s3_access_key: self.s3_access_key.or(other.s3_access_key),
            s3_secret_key: self.s3_secret_key.or(other.s3_secret_key),
            s3_virtual_host_style: self.s3_virtual_host_style.or(other.s3_virtual_host_style),
            listen: self.listen.or(other.listen),
            public_url: self.public_url.or(other.public_url),
            trusted_proxy: if self.trusted_proxy.is_empty() { other.trusted_proxy } else { self.trusted_proxy },
            tls_certificate: self.tls_certificate.or(other.tls_certificate),
            tls_key: self.tls_key.or(other.tls_key),
            no_auth: self.no_auth.or(other.no_auth),
            admin_password: self.admin_password.or(other.admin_password),
            default_visibility: self.default_visibility.or(other.default_visibility),
            sparse_images: self.sparse_images.or(other.sparse_images),
            gc_grace: self.gc_grace.or(other.gc_grace),
            upload_expiry: self.upload_expiry.or(other.upload_expiry),
            idle_timeout: self.idle_timeout.or(other.idle_timeout),
            stop_timeout: self.stop_timeout.or(other.stop_timeout),
            log: self.log.or(other.log),
            log_format: self.log_format.or(other.log_format),
        }
    }

    /// The data folder.
    pub fn data(&self) -> PathBuf {
        self.data.clone().unwrap_or_else(|| PathBuf::from("cove-data"))
    }

    /// The database's URL.
    pub fn database(&self) -> String {
        let embedded = || format!("sqlite://{}", self.data().join("cove.db").display());
        self.database.clone().unwrap_or_else(embedded)
    }

    /// The blob store's URL.
    pub fn blobs(&self) -> String {
        let embedded = || format!("file://{}", self.data().join("blobs").display());
        self.blobs.clone().unwrap_or_else(embedded)
    }

    /// How a bucket is reached.
    pub fn cloud(&self) -> CloudSettings {
        CloudSettings {
            endpoint: self.s3_endpoint.clone(),
            region: self.s3_region.clone(),
            access_key: self.s3_access_key.clone(),
            secret_key: self.s3_secret_key.clone(),
            virtual_host_style: self.s3_virtual_host_style.unwrap_or_default(),
        }
    }

    /// The address to listen on.
    pub fn listen(&self) -> SocketAddr {
        self.listen.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 5000)))
    }

    /// There are no accounts.
    pub fn no_auth(&self) -> bool {
        self.no_auth.unwrap_or_default()
    }

    /// Images may lack blobs.
    pub fn sparse_images(&self) -> bool {
        self.sparse_images.unwrap_or_default()
    }

    /// Visibility of new repositories.
    pub fn default_visibility(&self) -> Visibility {
        self.default_visibility.unwrap_or(Visibility::Private)
    }

    /// How long unused content is kept.
    pub fn gc_grace(&self) -> Duration {
        self.gc_grace.unwrap_or(Duration::from_secs(24 * 3600))
    }

    /// How long an upload without progress is kept.
    pub fn upload_expiry(&self) -> Duration {
        self.upload_expiry.unwrap_or(Duration::from_secs(24 * 3600))
    }

    /// How long a connection may stand still.
    pub fn idle_timeout(&self) -> Duration {
        self.idle_timeout.unwrap_or(Duration::from_secs(60))
    }

    /// How long running requests may take at the end.
    pub fn stop_timeout(&self) -> Duration {
        self.stop_timeout.unwrap_or(Duration::from_secs(30))
    }

    /// Checks what only makes sense together.
    pub fn validate(&self) -> Result<(), SettingsError> {
        if self.no_auth() && !self.listen().ip().is_loopback() {
            return Err(SettingsError::OpenToAll(self.listen()));
        }
        if self.tls_certificate.is_some() != self.tls_key.is_some() {
            return Err(SettingsError::HalfTls);
        }
        self.public_url().map(|_| ())
    }

    /// The URL that clients use.
    pub fn public_url(&self) -> Result<Option<url::Url>, SettingsError> {
        let Some(text) = &self.public_url else { return Ok(None) };
        let wrong = || SettingsError::PublicUrl(text.clone());
        let url: url::Url = text.parse().map_err(|_| wrong())?;
        let usable = matches!(url.scheme(), "http" | "https") && url.has_host() && url.path() == "/";
        if usable { Ok(Some(url)) } else { Err(wrong()) }
    }
}

/// The settings in force, as a file would hold them, secrets hidden.
impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |value: &str| toml::Value::String(value.to_owned()).to_string();
        let time = |value: Duration| text(&humantime::format_duration(value).to_string());
        let mut line = |name: &str, value: Option<String>| match value {
            Some(value) => writeln!(f, "{name} = {value}"),
            None => writeln!(f, "# {name} is not set"),
        };
        let optional = |value: &Option<String>| value.as_deref().map(text);
        let path = |value: &Option<PathBuf>| value.as_ref().map(|path| text(&path.display().to_string()));
        let secret = |value: &Option<String>| value.as_ref().map(|_| text("(hidden)"));
        line("data", Some(text(&self.data().display().to_string())))?;
        line("database", Some(text(&without_password(&self.database()))))?;
        line("blobs", Some(text(&self.blobs())))?;
        line("s3-endpoint", optional(&self.s3_endpoint))?;
        line("s3-region", optional(&self.s3_region))?;
        line("s3-access-key", secret(&self.s3_access_key))?;
        line("s3-secret-key", secret(&self.s3_secret_key))?;
        line("s3-virtual-host-style", Some(self.s3_virtual_host_style.unwrap_or_default().to_string()))?;
        line("listen", Some(text(&self.listen().to_string())))?;
        line("public-url", optional(&self.public_url))?;
        let proxies: Vec<String> = self.trusted_proxy.iter().map(|network| text(&network.to_string())).collect();
        line("trusted-proxy", Some(format!("[{}]", proxies.join(", "))))?;
        line("tls-certificate", path(&self.tls_certificate))?;
        line("tls-key", path(&self.tls_key))?;
        line("no-auth", Some(self.no_auth().to_string()))?;
        line("admin-password", secret(&self.admin_password))?;
        line("default-visibility", Some(text(self.default_visibility().as_str())))?;
        line("sparse-images", Some(self.sparse_images().to_string()))?;
        line("gc-grace", Some(time(self.gc_grace())))?;
        line("upload-expiry", Some(time(self.upload_expiry())))?;
        line("idle-timeout", Some(time(self.idle_timeout())))?;
        line("stop-timeout", Some(time(self.stop_timeout())))?;
        line("log", Some(text(self.log.as_deref().unwrap_or("info"))))?;
        let format = self.log_format.map(|format| match format {
            LogFormat::Text => text("text"),
            LogFormat::Json => text("json"),
        });
        line("log-format", format)
    }
}

/// A database URL that may be shown.
pub fn without_password(url: &str) -> String {
    if url.contains("password=") {
        return "(hidden)".to_owned();
    }
    match url.parse::<url::Url>() {
        Ok(mut parsed) if parsed.password().is_some() => match parsed.set_password(Some("hidden")) {
            Ok(()) => parsed.to_string(),
            Err(()) => "(hidden)".to_owned(),
        },
        Ok(_) => url.to_owned(),
        Err(_) if url.contains('@') => "(hidden)".to_owned(),
        Err(_) => url.to_owned(),
    }
}

/// An address or a network.
fn parse_network(text: &str) -> Result<IpNet, String> {
    let address = || text.parse::<std::net::IpAddr>().map(IpNet::from);
    text.parse::<IpNet>()
        .or_else(|_| address())
        .map_err(|_| "write an address or a network, such as 10.0.0.0/8".to_owned())
}

fn networks<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    texts.iter().map(|text| parse_network(text).map_err(D::Error::custom)).collect()
}

fn duration<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text).map(Some).map_err(D::Error::custom)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_wins_over_the_file() {
        let file: Settings = toml::from_str("listen = \"127.0.0.1:1\"\ngc-grace = \"2h\"\nno-auth = true").unwrap();
        let flags = Settings { listen: Some(([127, 0, 0, 1], 2).into()), ..Default::default() };
        let settings = flags.or(file);
        assert_eq!(settings.listen().port(), 2);
        assert_eq!(settings.gc_grace(), Duration::from_secs(7200));
        assert!(settings.no_auth());
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let open = Settings { no_auth: Some(true), listen: Some(([0, 0, 0, 0], 5000).into()), ..Default::default() };
        assert!(matches!(open.validate(), Err(SettingsError::OpenToAll(_))));
        let half = Settings { tls_key: Some("key.pem".into()), ..Default::default() };
        assert!(matches!(half.validate(), Err(SettingsError::HalfTls)));
        for url in ["registry", "ftp://a", "https://a/path"] {
            let wrong = Settings { public_url: Some(url.to_owned()), ..Default::default() };
            assert!(matches!(wrong.validate(), Err(SettingsError::PublicUrl(_))), "{url}");
        }
        assert!(toml::from_str::<Settings>("listten = \"127.0.0.1:1\"").is_err(), "unknown settings are errors");
    }

    #[test]
    fn secrets_are_not_shown() {
        let settings = Settings {
            database: Some("postgres://cove:s3cret@db/cove".to_owned()),
            s3_secret_key: Some("s3cret".to_owned()),
            s3_access_key: Some("s3cret".to_owned()),
            admin_password: Some("s3cret".to_owned()),
            ..Default::default()
        };
        let shown = settings.to_string();
        assert!(!shown.contains("s3cret"), "{shown}");
        let lines = shown.lines().count();
        assert!(lines < 30, "{lines} settings are too many");
    }
}
