//! `cove import`: from a file, from stdin, or from the web.

use std::io::{self, Read};

use bytes::{Buf, Bytes};
use cove_container::events::Event;
use cove_engine::{ImportOptions, Store};
use cove_oci::{Digest, Platform, Reference};
use tokio::sync::mpsc::{Receiver, channel};

use super::load::open;
use crate::arguments::Import;
use crate::context::Context;
use crate::error::Error;

/// Makes an image of one layer of a tar archive, and prints its id.
pub fn run(context: &Context, arguments: &Import) -> Result<(), Error> {
    let file = arguments.file.to_string_lossy();
    let reference =
        arguments.reference.as_deref().map(|name| Reference::parse(name, &context.defaults()?).map_err(Error::from));
    let options = ImportOptions {
        changes: arguments.change.clone(),
        message: arguments.message.clone().unwrap_or_else(|| format!("Imported from {file}")),
        reference: reference.transpose()?.map(Reference::or_latest),
        platform: arguments.platform.clone().unwrap_or_else(Platform::host),
    };
    let store = context.store()?;
    let id = match &*file {
        "-" => store.import(io::stdin(), options)?,
        address if address.starts_with("http://") || address.starts_with("https://") => {
            from_web(context, store, address, options)?
        }
        _ => store.import(open(&arguments.file)?, options)?,
    };
    context.tell(&Event::of_image("import", &id.to_string(), &id.to_string()));
    Ok(context.printer.line(id.to_string())?)
}

/// Pieces that wait to be read.
const PIECES: usize = 16;

/// Imports what is at an address, while it comes.
fn from_web(context: &Context, store: Store, address: &str, options: ImportOptions) -> Result<Digest, Error> {
    let client = context.client()?;
    context.network(async {
        let mut file = client.open(address).await?;
        let (sender, pieces) = channel(PIECES);
        let importing =
            tokio::task::spawn_blocking(move || store.import(Pieces { pieces, rest: Bytes::new() }, options));
        loop {
            let piece = file.chunk().await;
            let is_last = !matches!(piece, Ok(Some(_)));
            // Who imports has gone: with what error, is told below.
            if sender.send(piece.map_err(io::Error::other)).await.is_err() || is_last {
                break;
            }
        }
        Ok(importing.await.map_err(io::Error::from)??)
    })
}

/// Pieces that come from another thread, as something to read from.
struct Pieces {
    pieces: Receiver<io::Result<Option<Bytes>>>,
    rest: Bytes,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => match piece? {
                    Some(piece) => self.rest = piece,
                    None => return Ok(0),
                },
                // Whoever sends was cut off before the end.
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        let count = self.rest.len().min(buffer.len());
        self.rest.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}
