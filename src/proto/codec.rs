//! How messages are read and written: by prost, with buffers of the size that they have.

use std::marker::PhantomData;

use prost::Message;
use tonic::codec::{self, BufferSettings};
use tonic_prost::ProstCodec;

/// Bytes that a call sets aside for what it reads, and again for what it writes. Nearly every message of
/// the hot path has fewer; larger ones grow their buffer. The library's are of 8 KiB.
const BUFFER: usize = 2 * 1_024;
/// Bytes after which a stream hands on what it has written: the library's own.
const HAND_ON: usize = 32 * 1_024;

/// prost's codec. The generated clients and servers make one for each call.
#[derive(Debug, Clone)]
pub struct Codec<Encode, Decode>(PhantomData<(Encode, Decode)>);

impl<Encode, Decode> Default for Codec<Encode, Decode> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<Encode, Decode> codec::Codec for Codec<Encode, Decode>
where
    Encode: Message + Send + 'static,
    Decode: Message + Default + Send + 'static,
{
    type Encode = Encode;
    type Decode = Decode;
    type Encoder = <ProstCodec<Encode, Decode> as codec::Codec>::Encoder;
    type Decoder = <ProstCodec<Encode, Decode> as codec::Codec>::Decoder;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<Encode, Decode>::raw_encoder(BufferSettings::new(BUFFER, HAND_ON))
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<Encode, Decode>::raw_decoder(BufferSettings::new(BUFFER, HAND_ON))
    }
}
