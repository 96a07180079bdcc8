//! Splits a master file into entries of words (RFC 1035 §5.1).
//!
//! An entry ends with its line, unless parentheses hold it open. Blank lines and comments make none. Escapes are only
//! skipped over here, since their meaning depends on what the word is. A lexical problem costs its entry and no more:
//! reading goes on behind it.

use crate::zone::records::text::{Position, Token};

/// Why a stretch of text has no words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LexicalError {
    /// A quoted string doesn't end on its line.
    #[error("this quotation mark is not closed on its line: close it, or write \\\" for the character")]
    UnclosedQuote,
    /// The file ends within parentheses.
    #[error("this parenthesis is never closed, so the rest of the file was not read: add ) where the record ends")]
    UnclosedParenthesis,
    /// A parenthesis that closes nothing.
    #[error("nothing is open here: remove this parenthesis, or write \\) for the character")]
    StrayParenthesis,
    /// A quotation mark in the middle of a word.
    #[error("a quotation mark inside a word: quote the whole string, or write \\\" for the character")]
    InnerQuote,
    /// A carriage return that ends no line.
    #[error("a carriage return without a line feed: save the file with line ends of Unix or DOS")]
    CarriageReturn,
}

/// Reads entries from a text.
pub(super) struct Lexer<'a> {
    text: &'a str,
    at: usize,
    position: Position,
}

/// What the reader needs to know of an entry besides its words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    /// Whether blanks stand before the first word, so that the previous owner holds.
    pub indented: bool,
}

impl<'a> Lexer<'a> {
    /// Starts at the top. A byte order mark there is no part of the text (Unicode standard §23.8).
    pub(super) fn new(text: &'a str) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        Lexer { text, at: 0, position: Position { line: 1, column: 1 } }
    }

    /// Fills `tokens` with the words of the next entry; there is at least one. `None` at the end of the text.
    pub(super) fn next_entry(
        &mut self,
        tokens: &mut Vec<Token<'a>>,
    ) -> Option<Result<Entry, (Position, LexicalError)>> {
        tokens.clear();
        let mut indented = self.is_blank();
        let mut fault = None;
        let mut open = None; // where the outermost open parenthesis stands
        let mut depth = 0usize;
        loop {
            let here = self.position;
            match self.peek() {
                None => {
                    if let Some(at) = open {
                        fault.get_or_insert((at, LexicalError::UnclosedParenthesis));
                    }
                    break;
                }
                Some(b'\n') => {
                    self.advance();
                    if depth > 0 {
                        continue;
                    }
                    if !tokens.is_empty() || fault.is_some() {
                        break;
                    }
                    indented = self.is_blank();
                }
                Some(b' ' | b'\t') => self.advance(),
                Some(b';') => self.skip_line(),
                Some(b'(') => {
                    self.advance();
                    depth += 1;
                    open.get_or_insert(here);
                }
                Some(b')') => {
                    self.advance();
                    match depth {
                        0 => drop(fault.get_or_insert((here, LexicalError::StrayParenthesis))),
                        1 => (depth, open) = (0, None),
                        _ => depth -= 1,
                    }
                }
                Some(b'\r') => {
                    self.advance();
                    if self.peek() != Some(b'\n') {
                        fault.get_or_insert((here, LexicalError::CarriageReturn));
                    }
                }
                Some(_) => match self.token(here) {
                    Ok(token) => tokens.push(token),
                    Err(error) => {
                        fault.get_or_insert(error);
                        // What is left of the line can't be told apart; a parenthesis in it probably closes.
                        let start = self.at;
                        self.skip_line();
                        let closing = self.text[start..self.at].bytes().filter(|&byte| byte == b')').count();
                        depth = depth.saturating_sub(closing);
                        if depth == 0 {
                            open = None;
                        }
                    }
                },
            }
        }
        match fault {
            Some(fault) => Some(Err(fault)),
            None if tokens.is_empty() => None,
            None => Some(Ok(Entry { indented })),
        }
    }

    /// A word or a quoted string. In case of an error the rest of the line is still to be skipped.
    fn token(&mut self, at: Position) -> Result<Token<'a>, (Position, LexicalError)> {
        let start = self.at;
        if self.peek() == Some(b'"') {
            self.quoted(at)?;
            return Ok(Token { text: &self.text[start + 1..self.at - 1], quoted: true, at });
        }
        let mut previous = 0;
        while let Some(byte) = self.peek() {
            match byte {
                b' ' | b'\t' | b'\n' | b'\r' | b';' | b'(' | b')' => break,
                b'\\' => self.skip_escape(),
                // The value of a service parameter: alpn="h2,h3" (RFC 9460 §2.1).
                b'"' if previous == b'=' => self.quoted(self.position)?,
                b'"' => return Err((self.position, LexicalError::InnerQuote)),
                _ => self.advance(),
            }
            previous = byte;
        }
        Ok(Token { text: &self.text[start..self.at], quoted: false, at })
    }

    /// Goes behind a string in quotation marks.
    fn quoted(&mut self, open: Position) -> Result<(), (Position, LexicalError)> {
        self.advance();
        loop {
            match self.peek() {
                Some(b'"') => break self.advance(),
                Some(b'\\') => self.skip_escape(),
                Some(b'\n') | None => return Err((open, LexicalError::UnclosedQuote)),
                Some(_) => self.advance(),
            }
        }
        Ok(())
    }

    /// Goes behind a backslash and the character that it makes ordinary; a line end never is.
    fn skip_escape(&mut self) {
        self.advance();
        if !matches!(self.peek(), None | Some(b'\n' | b'\r')) {
            self.advance();
        }
    }

    /// Goes to the end of the line.
    fn skip_line(&mut self) {
        while self.peek().is_some_and(|byte| byte != b'\n') {
            self.advance();
        }
    }

    fn is_blank(&self) -> bool {
        matches!(self.peek(), Some(b' ' | b'\t'))
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Goes one octet on. Columns count characters: an octet that continues one counts nothing.
    fn advance(&mut self) {
        match self.text.as_bytes()[self.at] {
            b'\n' => self.position = Position { line: self.position.line + 1, column: 1 },
            0x80..=0xbf => {}
            _ => self.position.column += 1,
        }
        self.at += 1;
    }
}
