//! `cove-server key rotate`, `check`, `healthcheck`

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{CommandError, Outcome, open_blobs, open_store, say};
use crate::auth::{KEY_AFTERLIFE, new_signing_key};
use crate::metadata::as_ms;
use crate::settings::Settings;

#[derive(Debug, Subcommand)]
pub(super) enum Key {
    /// Sign with a new key from now on; tokens signed with the old one last out their time
    Rotate,
}

#[derive(Debug, Args)]
pub(super) struct Check {
    /// Hash every byte again
    #[arg(long)]
    deep: bool,
    /// Delete objects that the database does not know, such as a restored backup may have; not where two
    /// registries share a place
    #[arg(long)]
    delete_unknown: bool,
}

#[derive(Debug, Args)]
pub(super) struct Healthcheck {
    /// Address to ask [default: where this configuration listens]
    #[arg(long, value_name = "ADDRESS")]
    address: Option<std::net::SocketAddr>,
}

pub(super) async fn key(settings: &Settings, command: Key) -> Outcome {
    match command {
        Key::Rotate => {
            let key = new_signing_key()?;
            open_store(settings).await?.add_signing_key(&key, false, as_ms(KEY_AFTERLIFE)).await?;
            say(&format!("tokens are signed with key {} within a minute", key.id))
        }
    }
}

pub(super) async fn check(settings: &Settings, command: Check) -> Outcome {
    let (store, blobs) = (open_store(settings).await?, open_blobs(settings, false)?);
    let report = crate::check::check(&store, &blobs, command.deep).await?;
    for problem in &report.problems {
        say(problem)?;
    }
    let mut left = report.problems.len();
    if command.delete_unknown {
        // Safe beside a running server: an object is recorded before its first byte is written.
        for key in &report.unknown {
            blobs.delete(key, None).await?;
            left -= 1;
        }
        say(&format!("{} unknown objects deleted", report.unknown.len()))?;
    }
    let hashed = match command.deep {
        true => format!(", {} bytes hashed", report.hashed_bytes),
        false => String::new(),
    };
    let found = match left {
        0 => "no problems".to_owned(),
        count => format!("{count} problems"),
    };
    say(&format!("{} blobs checked{hashed}: {found}", report.blobs))?;
    Ok(if left == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Asks without TLS where the server has none; with TLS it is enough that it shakes hands, for the certificate is
/// for the public name.
pub(super) async fn healthcheck(settings: &Settings, command: Healthcheck) -> Outcome {
    let mut address = command.address.unwrap_or_else(|| settings.listen());
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            std::net::SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            std::net::SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    let ready = async {
        let mut stream = TcpStream::connect(address).await?;
        if settings.tls_certificate.is_some() {
            return Ok::<_, std::io::Error>(true);
        }
        let request = format!("GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await?;
        Ok(answer.ends_with(b"200"))
    };
    match tokio::time::timeout(Duration::from_secs(5), ready).await {
        Ok(Ok(true)) => say("ready"),
        Ok(Ok(false)) => Err(CommandError::Refused(format!("{address} is not ready: its log tells why"))),
        Ok(Err(error)) => Err(CommandError::Refused(format!("{address} does not answer: {error}"))),
        Err(_) => Err(CommandError::Refused(format!("{address} did not answer within 5 seconds"))),
    }
}
