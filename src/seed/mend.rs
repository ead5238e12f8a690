//! Faults in what MySQL's client dumps, mended on the way.
//!
//! A trigger, an event or a routine that was made as one of several statements in a packet, as drivers send
//! them, keeps the semicolon after its body. The client puts the bodies of the first two into a comment,
//! where that is a syntax error, and the server drops it from the third. So such a definition is followed
//! by another statement in its packet again. No row of a table contains a line break in a dump.
//!
//! An event is dumped with `NOT PRESERVE`, its default, which is a syntax error in the sql_mode
//! HIGH_NOT_PRECEDENCE. That is left out.

use std::io::{self, Read};

/// How the line begins in which a trigger or an event is made, and what opens the comment of its body.
const BEGINS: [(&[u8], &[u8]); 2] =
    [(b"/*!50003 CREATE*/ ", b"/*!50003 TRIGGER "), (b"/*!50106 CREATE*/ ", b"/*!50106 EVENT ")];
/// How those statements end, with and without such a semicolon.
const ENDS: [(&[u8], bool); 4] =
    [(b"; */;;\n", true), (b"; */ ;;\n", true), (b"*/;;\n", false), (b"*/ ;;\n", false)];
/// What stands in front of each event's `NOT PRESERVE` or `PRESERVE`, and what is left out.
const COMPLETION: &[u8] = b" ON COMPLETION ";
const NOT_PRESERVE: &[u8] = b" ON COMPLETION NOT PRESERVE";
/// How a routine with such a semicolon ends.
const ROUTINE_ENDS: &[u8] = b"; ;;\n";
/// What follows instead.
const FOLLOWED: &[u8] = b"; DO 0 ;;\n";
/// Bytes that are read at a time.
const CHUNK: usize = 256 << 10;
/// A line that begins a statement is known by so many bytes.
const KNOWN: usize = 18;

/// A dump that its server can load.
pub struct Mended<R> {
    from: R,
    /// What was read, mended up to `ready`, and passed on up to `passed`.
    bytes: Vec<u8>,
    ready: usize,
    passed: usize,
    /// Where the current line begins.
    line: usize,
    /// A trigger or an event that is not over begins there, with this comment for its body.
    statement: Option<(usize, &'static [u8])>,
}

/// True if the text of a trigger or an event would be taken for the end of it.
pub fn mistakes(body: &str) -> bool {
    let within = |end: &[u8]| body.as_bytes().windows(end.len()).any(|window| window == end);
    within(ROUTINE_ENDS) || ENDS.iter().any(|(end, semicolon)| *semicolon && within(end))
}

impl<R: Read> Mended<R> {
    /// Mends what comes `from` a client.
    pub fn new(from: R) -> Mended<R> {
        Mended { from, bytes: Vec::new(), ready: 0, passed: 0, line: 0, statement: None }
    }

    /// Reads more; `false` at the end.
    fn refill(&mut self) -> io::Result<bool> {
        // The beginning of the line is kept: is it one of ours?
        let gone = self.passed.min(self.line);
        self.bytes.drain(..gone);
        self.line -= gone;
        self.passed -= gone;
        if let Some((start, _)) = &mut self.statement {
            *start -= gone;
        }
        let length = self.bytes.len();
        self.bytes.resize(length + CHUNK, 0);
        let read = self.from.read(&mut self.bytes[length..]);
        self.bytes.truncate(length + *read.as_ref().unwrap_or(&0));
        if read? == 0 {
            self.ready = self.bytes.len();
            return Ok(false);
        }
        let mut at = length;
        while let Some(found) = self.bytes[at..].iter().position(|b| *b == b'\n') {
            at = self.end_line(at + found + 1);
        }
        let tail = self.bytes.len() - self.line;
        self.ready = match self.statement {
            Some((start, _)) => start,
            None if tail < KNOWN || begins(&self.bytes[self.line..]).is_some() => self.line,
            // How it ends decides whether something is added.
            None => self.bytes.len() - ROUTINE_ENDS.len().min(tail),
        }
        .max(self.passed);
        Ok(true)
    }

    /// A line ends at `end`; where the next one begins.
    fn end_line(&mut self, mut end: usize) -> usize {
        if self.statement.is_none() {
            let body = begins(&self.bytes[self.line..end]);
            self.statement = body.map(|body| (self.line, body));
            if let Some(at) = body.and_then(|body| default(&self.bytes[self.line..end], body)) {
                self.bytes.drain(self.line + at..self.line + at + NOT_PRESERVE.len());
                end -= NOT_PRESERVE.len();
            }
        }
        let text = &self.bytes[..end];
        let mut next = end;
        if let Some((start, body)) = self.statement {
            if let Some((ending, semicolon)) = ENDS.iter().find(|(e, _)| text.ends_with(e)) {
                if *semicolon {
                    next = self.uncomment(start, end - ending.len(), end, body);
                }
                self.statement = None;
            }
        } else if text.ends_with(ROUTINE_ENDS) {
            let from = end - ROUTINE_ENDS.len();
            self.bytes.splice(from..end, FOLLOWED.iter().copied());
            next = from + FOLLOWED.len();
        }
        self.line = next;
        next
    }

    /// Takes the definition between `start` and `until` out of the comment that `body` opens.
    fn uncomment(&mut self, start: usize, until: usize, end: usize, body: &[u8]) -> usize {
        let mut windows = self.bytes[start..until].windows(body.len());
        let Some(at) = windows.position(|window| window == body) else { return end };
        self.bytes.splice(until..end, FOLLOWED.iter().copied());
        // `/*!50003 `
        let opener = start + at..start + at + 9;
        self.bytes.drain(opener);
        until + FOLLOWED.len() - 9
    }
}

/// What opens the comment of the body, if such a statement begins with the line.
fn begins(line: &[u8]) -> Option<&'static [u8]> {
    BEGINS.iter().find(|(begin, _)| line.starts_with(begin)).map(|(_, body)| *body)
}

/// Where in the first line of an event its default is.
fn default(line: &[u8], body: &[u8]) -> Option<usize> {
    let find = |from: usize, text: &[u8]| {
        line.get(from..)?.windows(text.len()).position(|window| window == text).map(|at| from + at)
    };
    // An odd number of backquotes ends its name.
    let mut at = find(0, body)? + body.len() + 1;
    while let Some(quote) = find(at, b"`") {
        at = quote + 1;
        if line.get(at) != Some(&b'`') {
            break;
        }
        at += 1;
    }
    let at = find(at, COMPLETION)?;
    line[at..].starts_with(NOT_PRESERVE).then_some(at)
}

impl<R: Read> Read for Mended<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.passed == self.ready {
            if !self.refill()? && self.passed == self.ready {
                return Ok(0);
            }
        }
        let length = buffer.len().min(self.ready - self.passed);
        buffer[..length].copy_from_slice(&self.bytes[self.passed..self.passed + length]);
        self.passed += length;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives so many bytes at a time.
    struct Slow<'a>(&'a [u8], usize);

    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let (now, later) = self.0.split_at(self.1.min(self.0.len()));
            buffer[..now.len()].copy_from_slice(now);
            self.0 = later;
            Ok(now.len())
        }
    }

    #[test]
    fn a_definition_with_a_semicolon_is_followed_by_a_statement() {
        let dump = b"DELIMITER ;;\n/*!50003 CREATE*/ /*!50017 DEFINER=`a`@`b`*/ /*!50003 TRIGGER a DELETE\n\
            FROM b; */;;\nDELIMITER ;\n/*!50106 CREATE*/ /*!50106 EVENT `e` DO DELETE FROM b; */ ;;\n\
            /*!50106 CREATE*/ /*!50106 EVENT `a``b` ON COMPLETION NOT PRESERVE DO\nx */ ;;\n\
            /*!50106 CREATE*/ /*!50106 EVENT ` ON COMPLETION NOT PRESERVE` ON COMPLETION PRESERVE DO '\
            ON COMPLETION NOT PRESERVE' */ ;;\n\
            RETURN 1; ;;\n/*!50003 CREATE*/ /*!50003 TRIGGER c BEGIN x; END */;;\n\
            INSERT INTO a VALUES ('; */;;');\n'; */;;";
        let mended =
            b"DELIMITER ;;\n/*!50003 CREATE*/ /*!50017 DEFINER=`a`@`b`*/ TRIGGER a DELETE\n\
            FROM b; DO 0 ;;\nDELIMITER ;\n/*!50106 CREATE*/ EVENT `e` DO DELETE FROM b; DO 0 ;;\n\
            /*!50106 CREATE*/ /*!50106 EVENT `a``b` DO\nx */ ;;\n\
            /*!50106 CREATE*/ /*!50106 EVENT ` ON COMPLETION NOT PRESERVE` ON COMPLETION PRESERVE DO '\
            ON COMPLETION NOT PRESERVE' */ ;;\n\
            RETURN 1; DO 0 ;;\n/*!50003 CREATE*/ /*!50003 TRIGGER c BEGIN x; END */;;\n\
            INSERT INTO a VALUES ('; */;;');\n'; */;;";
        for step in 1..dump.len() {
            let mut got = Vec::new();
            Mended::new(Slow(dump, step)).read_to_end(&mut got).unwrap();
            assert!(got == mended, "{step}: {}", String::from_utf8_lossy(&got));
        }
        for short in [b"".as_slice(), b"a", b"; */;;"] {
            let mut got = Vec::new();
            Mended::new(Slow(short, 2)).read_to_end(&mut got).unwrap();
            assert_eq!(got, short);
        }
    }
}
