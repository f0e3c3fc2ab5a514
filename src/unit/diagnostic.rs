//! A fault in a unit file, with its place, and how it is shown.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

use super::harmless::{harmless, harmless_lines};

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
        // The colours are ours; nothing that the file says may steer the terminal.
        let path = harmless(&self.path.to_string_lossy());
        let message = harmless_lines(&self.message);
        let help = self.help.as_deref().map(harmless_lines);
        // Only the line at fault is handed over: a file full of faults must not be laid out whole for each of them.
        let (line, span) = self.offending_line();
        let snippet = Snippet::source(line).line_start(self.line).path(path.as_str()).annotation(AnnotationKind::Primary.span(span));
        let mut group = Level::ERROR.primary_title(message.as_str()).element(snippet);
        if let Some(help) = &help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        renderer.render(&[group])
    }

    /// As it is shown, and where in that the fault is.
    fn offending_line(&self) -> (String, Range<usize>) {
        let start = self.text[..self.span.start].rfind('\n').map_or(0, |at| at + 1);
        let end = self.text[self.span.start..].find('\n').map_or(self.text.len(), |at| self.span.start + at);
        let span = self.span.start..self.span.end.min(end);
        let after = self.text[span.end..end].trim_end_matches('\r');
        let [before, at, after] = [&self.text[start..span.start], &self.text[span], after].map(harmless);
        let span = before.len()..before.len() + at.len();
        (before + &at + &after, span)
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
