//! Regular files of bounded size: an endless one, such as `/dev/zero`, fills no memory, and a FIFO blocks nobody.

use std::{
    fs::{File, Metadata, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _},
    path::Path,
};

use zeroize::Zeroizing;

/// Opens a file for reading.
///
/// # Errors
///
/// It cannot be opened, or is no regular file; the text gives the remedy.
pub fn open(path: &Path) -> io::Result<(File, Metadata)> {
    let mut options = OpenOptions::new();
    // Without it, open(2) of a FIFO waits for a writer.
    options.read(true).custom_flags(libc::O_NONBLOCK);
    let file = options.open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_file() {
        return Ok((file, metadata));
    }
    let kind = metadata.file_type();
    let kind = if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a FIFO"
    } else if kind.is_char_device() || kind.is_block_device() {
        "a device"
    } else {
        "a special file"
    };
    Err(io::Error::other(format!(
        "it is {kind}, not a regular file: name a regular file"
    )))
}

/// Reads a file of at most `most` bytes.
///
/// # Errors
///
/// It cannot be read, or is longer.
pub fn read_all(file: File, most: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    // The whole capacity at once: reallocation would leave copies of a key in memory.
    let size = file.metadata()?.len().min(most) as usize;
    let mut bytes = Zeroizing::new(Vec::with_capacity(size + 1));
    let read = file.take(most + 1).read_to_end(&mut bytes)?;
    if read as u64 > most {
        return Err(io::Error::other(format!(
            "it is longer than {most} bytes, the most that tfo reads: name another file, or shorten it"
        )));
    }
    Ok(bytes)
}

/// Opens and reads a file of at most `most` bytes.
///
/// # Errors
///
/// As [`open`] and [`read_all`].
pub fn read(path: &Path, most: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    open(path).and_then(|(file, _)| read_all(file, most))
}

/// The text of a file's bytes.
///
/// # Errors
///
/// They are not UTF-8; the text has the line.
pub fn text(bytes: &[u8]) -> io::Result<&str> {
    str::from_utf8(bytes).map_err(|error| {
        let before = &bytes[..error.valid_up_to()];
        let line = before.split(|byte| *byte == b'\n').count();
        io::Error::other(format!(
            "line {line} is not UTF-8 text: write it in UTF-8, or name another file"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endless_and_blocking_files_are_refused() {
        let refused = |path: &str| read(Path::new(path), 10).unwrap_err().to_string();
        assert!(refused("/dev/zero").contains("a device, not a regular file"));
        assert!(refused("/").contains("a directory, not a regular file"));
        assert!(refused("/proc/self/maps").contains("longer than 10 bytes"));
        let fifo = std::env::temp_dir().join(format!("tfo-fifo-{}", std::process::id()));
        let mode = rustix::fs::Mode::RUSR;
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, mode).unwrap();
        let error = read(&fifo, 10).unwrap_err().to_string();
        std::fs::remove_file(&fifo).unwrap();
        assert!(error.contains("a FIFO, not a regular file"), "{error}");
    }

    #[test]
    fn the_line_that_is_no_text_is_named() {
        assert_eq!(text(b"a\nb").unwrap(), "a\nb");
        let error = text(b"a\nb\n\xff").unwrap_err().to_string();
        assert!(error.starts_with("line 3 is not UTF-8"), "{error}");
    }
}
