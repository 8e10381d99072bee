//! Bytes that grow with what the host gives: where there is no memory for them, that is an error and not the host's end.

use std::io::{self, ErrorKind, Write};
use std::ops::Deref;

/// A growing buffer.
#[derive(Debug, Default)]
pub struct Buffer(Vec<u8>);

impl Buffer {
    /// Forgets what comes after this many bytes.
    pub fn truncate(&mut self, bytes: usize) {
        self.0.truncate(bytes);
    }

    /// Forgets everything and keeps the room.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// The bytes.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// Makes room for one byte more, with which the bytes move at most once.
    pub fn reserve_one(&mut self) -> io::Result<()> {
        self.0.try_reserve_exact(1).map_err(|_| ErrorKind::OutOfMemory.into())
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl Write for Buffer {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes)?;
        Ok(bytes.len())
    }

    #[inline]
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.try_reserve(bytes.len()).map_err(|_| io::Error::from(ErrorKind::OutOfMemory))?;
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether there is memory for this much, at the moment.
pub(crate) fn is_room_for(bytes: usize) -> bool {
    let mut room = Vec::<u8>::new();
    let is_there = room.try_reserve_exact(bytes).is_ok();
    // Asked for and given back at once, it might be thought of no use.
    std::hint::black_box(&mut room);
    is_there
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_memory_holds_is_an_error() {
        let mut buffer = Buffer::default();
        buffer.write_all(b"ab").unwrap();
        buffer.reserve_one().unwrap();
        assert_eq!(&*buffer, b"ab");
        assert!(is_room_for(1 << 20) && !is_room_for(usize::MAX >> 1) && !is_room_for(usize::MAX));
    }
}
