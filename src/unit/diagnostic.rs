//! A fault in a unit file, with its place, and how it is shown.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

/// Width that messages are rendered for. Fixed, so that output does not depend on the terminal.
const RENDER_WIDTH: usize = 140;

/// One fault. `Display` renders it without colours; [`Diagnostic::render`] with them if wanted.
#[derive(Clone)]
pub struct Diagnostic {
    pub path: PathBuf,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// The key that it is about, in full (`resources.memory.max`); empty when it is about the whole file.
    pub key: String,
    pub message: String,
    pub help: Option<String>,
    text: Arc<str>,
    span: Range<usize>,
}

impl Diagnostic {
    /// A fault at `span` (bytes) of `text`. A span outside the text is moved to its end.
    pub(super) fn new(path: &Path, text: &Arc<str>, span: Range<usize>, key: String, message: String, help: Option<String>) -> Self {
        let start = floor_char(text, span.start);
        let end = floor_char(text, span.end).max(start);
        let before = &text[..start];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Self {
            path: path.to_owned(),
            line: before.matches('\n').count() + 1,
            column: text[line_start..start].chars().count() + 1,
            key,
            message,
            help,
            text: text.clone(),
            span: start..end,
        }
    }

    /// Is it about some text, or about what is not there?
    pub(super) fn has_place(&self) -> bool {
        !self.span.is_empty()
    }

    /// The message with the offending line and the place underlined.
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let renderer = renderer.decor_style(DecorStyle::Ascii).term_width(RENDER_WIDTH);
        let path = self.path.to_string_lossy();
        // Only the line at fault is handed over: a file full of faults must not be laid out whole for each of them.
        let (line, span) = self.offending_line();
        let snippet = Snippet::source(line).line_start(self.line).path(path.as_ref()).annotation(AnnotationKind::Primary.span(span));
        let mut group = Level::ERROR.primary_title(self.message.as_str()).element(snippet);
        if let Some(help) = &self.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        renderer.render(&[group])
    }

    fn offending_line(&self) -> (&str, Range<usize>) {
        let start = self.text[..self.span.start].rfind('\n').map_or(0, |at| at + 1);
        let end = self.text[self.span.start..].find('\n').map_or(self.text.len(), |at| self.span.start + at);
        (&self.text[start..end], self.span.start - start..self.span.end.min(end) - start)
    }
}

fn floor_char(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl fmt::Debug for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.path.display(), self.line, self.column, self.message)?;
        self.help.as_ref().map_or(Ok(()), |help| write!(f, " ({help})"))
    }
}

impl std::error::Error for Diagnostic {}
