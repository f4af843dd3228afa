//! Buffers of the pipe: of one size, lent for as long as bytes are in flight.
//! Knows nothing of streams.

/// Lends buffers, the hottest first.
pub struct BufferPool {
    free: Vec<Box<[u8]>>,
    buffer_bytes: usize,
    lent: usize,
}

/// A lent buffer with the bytes that have been read and not yet written.
pub struct Buffer {
    storage: Box<[u8]>,
    start: usize,
    end: usize,
}

impl BufferPool {
    /// A pool of buffers of `buffer_bytes` bytes, none of them allocated yet.
    pub fn new(buffer_bytes: usize) -> Self {
        BufferPool { free: Vec::new(), buffer_bytes, lent: 0 }
    }

    /// Lends an empty buffer.
    pub fn lend(&mut self) -> Buffer {
        self.lent += 1;
        let storage =
            self.free.pop().unwrap_or_else(|| vec![0; self.buffer_bytes].into_boxed_slice());
        Buffer { storage, start: 0, end: 0 }
    }

    /// Takes a buffer back.
    pub fn take_back(&mut self, buffer: Buffer) {
        self.lent -= 1;
        if self.free.len() < FREE_BUFFERS_MAX {
            self.free.push(buffer.storage);
        }
    }

    /// How many buffers are lent.
    pub fn lent(&self) -> usize {
        self.lent
    }
}

impl Buffer {
    /// All of an empty buffer, to be read into.
    pub fn space(&mut self) -> &mut [u8] {
        assert_eq!(self.end, 0, "a buffer is filled once before it is emptied");
        &mut self.storage
    }

    /// So many bytes of the space have been filled.
    pub fn fill(&mut self, bytes: usize) {
        assert!(bytes <= self.storage.len());
        self.end = bytes;
    }

    /// What has still to be written.
    pub fn pending(&self) -> &[u8] {
        &self.storage[self.start..self.end]
    }

    /// So many bytes of it have been written; whether that was the rest.
    pub fn consume(&mut self, bytes: usize) -> bool {
        self.start += bytes;
        assert!(self.start <= self.end);
        self.start == self.end
    }
}

/// What a burst has made the process allocate is given back beyond this.
const FREE_BUFFERS_MAX: usize = 64;
