//! Decompresses layers.

use std::io::{self, Read};

use cove_oci::Codec;

use crate::unpack::UnpackLimits;

/// Decompresses a layer. Multi-member gzip and concatenated zstd frames are one stream.
pub fn decompress<'a>(
    codec: Codec,
    compressed: impl Read + Send + 'a,
    _limits: &UnpackLimits,
) -> io::Result<Box<dyn Read + Send + 'a>> {
    Ok(match codec {
        Codec::Identity => Box::new(compressed),
        Codec::Gzip => Box::new(flate2::read::MultiGzDecoder::new(compressed)),
        Codec::Zstd => Box::new(zstd::stream::read::Decoder::new(compressed)?),
    })
}
