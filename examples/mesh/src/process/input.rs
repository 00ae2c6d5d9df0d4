//! Lines of standard input, whatever bytes they are made of.

use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, BufReader};
use tokio::sync::mpsc;

/// A line, or why it cannot be taken in. The lines after it are there in both cases.
pub(crate) type Line = Result<String, String>;

/// The lines of standard input of at most so many bytes, of which at most `waiting` wait to be taken in.
pub(crate) fn lines(bytes_max: usize, waiting: usize) -> mpsc::Receiver<Line> {
    let (send, receive) = mpsc::channel(waiting);
    tokio::spawn(async move {
        let mut input = BufReader::new(tokio::io::stdin());
        while let Some(line) = next(&mut input, bytes_max).await {
            if send.send(line).await.is_err() {
                break;
            }
        }
    });
    receive
}

/// The next line, nothing at the end. Of a line that is too long no more is kept than may be.
async fn next(input: &mut (impl AsyncBufRead + Unpin), bytes_max: usize) -> Option<Line> {
    let (mut line, mut bytes) = (Vec::new(), 0_usize);
    loop {
        let piece = input.fill_buf().await.ok()?;
        let end = piece.iter().position(|byte| *byte == b'\n');
        let text = &piece[..end.unwrap_or(piece.len())];
        let is_last = piece.is_empty();
        if is_last && bytes == 0 {
            return None;
        }
        bytes = bytes.saturating_add(text.len());
        if bytes <= bytes_max {
            line.extend_from_slice(text);
        }
        let used = text.len() + usize::from(end.is_some());
        input.consume(used);
        if is_last || end.is_some() {
            break;
        }
    }
    if bytes > bytes_max {
        return Some(Err(format!("a line of {bytes} bytes is passed over: at most {bytes_max} are taken")));
    }
    Some(String::from_utf8(line).map_err(|_| "a line that is not UTF-8 is passed over".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_line_leaves_the_ones_after_it() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let read = |bytes: &[u8], buffer: usize| {
            runtime.block_on(async {
                let (mut input, mut lines) = (BufReader::with_capacity(buffer, bytes), Vec::new());
                while let Some(line) = next(&mut input, 4).await {
                    lines.push(line.ok());
                }
                lines
            })
        };
        let some = |line: &str| Some(line.to_owned());
        for buffer in [1, 3, 64] {
            assert_eq!(
                read(b"one\n\n\xff\xfe\nfour\nfives\nend", buffer),
                [some("one"), some(""), None, some("four"), None, some("end")]
            );
            assert_eq!(read(b"", buffer), []);
            assert_eq!(read(b"\n", buffer), [some("")]);
        }
    }
}
