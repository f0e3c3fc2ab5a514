//! Numbers, times and sizes out of TOML values. Every parser is strict: a sign, a blank, another base or an overflow is
//! a fault, never a guess (CVE-2020-13776 and CVE-2026-30892 were guesses that ended as root).

use std::time::Duration;

use toml::de::DeValue;

use super::choice::{Choice, is_later, words};
use super::near::nearest;

/// Longest duration: a hundred years.
const MAX_DURATION: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
/// Largest size: what the kernel's files take as a signed number.
const MAX_SIZE: u64 = i64::MAX as u64;
/// cgroup v2 takes no quota below a millisecond in a tenth of a second.
const MIN_CPU_MILLI: u32 = 10;
const MAX_CPU_MILLI: u32 = 4096 * 1000;

/// Why a value was not taken.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Wrong {
    /// Another type of TOML value than the key has. The schema says what was expected.
    Type,
    /// Elements of a list or a table, by their numbers.
    Elements(Vec<(usize, Wrong)>),
    /// The right type, but not a value that makes sense.
    Value { message: String, help: Option<String> },
}

pub(super) type Parsed<T> = Result<T, Wrong>;

pub(super) fn wrong<T>(message: impl Into<String>) -> Parsed<T> {
    Err(Wrong::Value { message: message.into(), help: None })
}

pub(super) fn wrong_try<T>(message: impl Into<String>, help: impl Into<String>) -> Parsed<T> {
    Err(Wrong::Value { message: message.into(), help: Some(help.into()) })
}

/// Names of the dictionary's variables, which are not replaced yet.
const VARIABLES: &[&str] = &[
    "${unit}",
    "${instance}",
    "${host}",
    "${machine-id}",
    "${boot-id}",
    "${uid}",
    "${state-dir}",
    "${cache-dir}",
    "${runtime-dir}",
    "${secrets-dir}",
    "${env:",
];

/// A string that the kernel can take: no NUL. Variables of the dictionary are refused, since they are not replaced yet.
pub(super) fn text(value: &DeValue<'_>) -> Parsed<String> {
    let text = value.as_str().ok_or(Wrong::Type)?;
    if text.contains('\0') {
        return wrong("a NUL byte cannot be passed to the kernel");
    }
    // One look for all of them: most texts have none.
    let variables = if text.contains("${") { VARIABLES } else { &[] };
    match variables.iter().find(|v| text.contains(**v)) {
        Some(variable) => wrong(format!("variables such as `{variable}` are known, but not supported yet")),
        None => Ok(text.to_owned()),
    }
}

pub(super) fn texts(value: &DeValue<'_>) -> Parsed<Vec<String>> {
    each(value, text)
}

/// Every element through `parse`; each that is at fault is reported at its own place.
pub(super) fn each<T>(value: &DeValue<'_>, parse: impl Fn(&DeValue<'_>) -> Parsed<T>) -> Parsed<Vec<T>> {
    let elements = value.as_array().ok_or(Wrong::Type)?;
    let (mut parsed, mut faults) = (Vec::with_capacity(elements.len()), Vec::new());
    for (n, element) in elements.iter().enumerate() {
        match parse(element.get_ref()) {
            Ok(value) => parsed.push(value),
            Err(wrong) => faults.push((n, wrong)),
        }
    }
    if faults.is_empty() { Ok(parsed) } else { Err(Wrong::Elements(faults)) }
}

pub(super) fn boolean(value: &DeValue<'_>) -> Parsed<bool> {
    value.as_bool().ok_or(Wrong::Type)
}

/// A decimal integer. TOML's other bases and its `+` are refused: an id or a limit written so is more often an accident.
pub(super) fn integer(value: &DeValue<'_>) -> Parsed<i64> {
    let number = value.as_integer().ok_or(Wrong::Type)?;
    if number.radix() != 10 || number.as_str().starts_with('+') {
        return wrong(format!("`{number}` is not a plain decimal number"));
    }
    number.as_str().parse().or_else(|_| wrong(format!("{number} is too large")))
}

/// An integer between two bounds, which the schema gives.
pub(super) fn between(value: &DeValue<'_>, low: i64, high: i64) -> Parsed<i64> {
    let number = integer(value)?;
    match (low, high) {
        _ if (low..=high).contains(&number) => Ok(number),
        (_, i64::MAX) => wrong(format!("{number} is out of range: at least {low}")),
        _ if low == high => wrong(format!("{number} is not known: only {low} is")),
        _ => wrong(format!("{number} is out of range: {low} to {high}")),
    }
}

pub(super) fn float(value: &DeValue<'_>) -> Parsed<f64> {
    let text = match (value.as_float(), value.as_integer()) {
        (Some(float), _) => float.as_str(),
        (_, Some(_)) => return Ok(integer(value)? as f64),
        _ => return Err(Wrong::Type),
    };
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && !text.starts_with('+') => Ok(number),
        _ => wrong(format!("`{text}` is not a plain number")),
    }
}

/// Digits and nothing else.
pub(super) fn digits(text: &str) -> Option<u64> {
    (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

/// A word of `T`.
pub(super) fn one_of<T: Choice>(value: &DeValue<'_>) -> Parsed<T> {
    let word = value.as_str().ok_or(Wrong::Type)?;
    if let Some((_, choice)) = T::ALL.iter().find(|(name, _)| *name == word) {
        return Ok(*choice);
    }
    if is_later(T::LATER, word) {
        return wrong(format!("\"{word}\" is known, but not supported yet"));
    }
    let words = words::<T>();
    let help = match nearest(word, words.iter().copied()) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => format!("one of {}", words.join(", ")),
    };
    wrong_try(format!("\"{word}\" is none of the words for this key"), help)
}

pub(super) fn list_of<T: Choice>(value: &DeValue<'_>) -> Parsed<Vec<T>> {
    each(value, one_of)
}

/// "1m30s", or a bare number of seconds.
pub(super) fn duration(value: &DeValue<'_>) -> Parsed<Duration> {
    match patience(value)? {
        Some(duration) => Ok(duration),
        None => wrong("\"infinity\" makes no sense here"),
    }
}

/// A duration above zero.
pub(super) fn positive(value: &DeValue<'_>) -> Parsed<Duration> {
    match duration(value)? {
        Duration::ZERO => wrong("zero makes no sense here"),
        duration => Ok(duration),
    }
}

/// A duration, or "infinity" (`None`).
pub(super) fn patience(value: &DeValue<'_>) -> Parsed<Option<Duration>> {
    let parsed = match value {
        DeValue::Integer(_) => match u64::try_from(integer(value)?) {
            Ok(seconds) => Some(Duration::from_secs(seconds)),
            Err(_) => return wrong("a duration cannot be negative"),
        },
        DeValue::String(text) if text == "infinity" => return Ok(None),
        DeValue::String(text) => parse_duration(text),
        _ => return Err(Wrong::Type),
    };
    match parsed {
        Some(duration) if duration <= MAX_DURATION => Ok(Some(duration)),
        Some(_) => wrong_try("longer than a hundred years", "\"infinity\" is the word for never, where never is allowed"),
        None => wrong_try(
            format!("`{}` is not a duration", value.as_str().unwrap_or_default()),
            "numbers with units, largest first, no blanks: \"1m30s\", \"250ms\", \"2h\"; units are d, h, m, s, ms, us",
        ),
    }
}

/// Numbers with units, each unit smaller than the one before; or digits alone, which are seconds.
pub(super) fn parse_duration(text: &str) -> Option<Duration> {
    const UNITS: &[(&str, u64)] =
        &[("d", 86_400_000_000), ("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1000), ("us", 1)];
    if let Some(seconds) = digits(text) {
        return Some(Duration::from_secs(seconds));
    }
    let (mut rest, mut micros, mut last) = (text, 0_u64, u64::MAX);
    while !rest.is_empty() {
        let unit_at = rest.find(|c: char| !c.is_ascii_digit())?;
        let number = digits(&rest[..unit_at])?;
        let after = &rest[unit_at..];
        let unit_len = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (_, scale) = UNITS.iter().find(|(unit, _)| *unit == &after[..unit_len])?;
        if *scale >= last {
            return None;
        }
        last = *scale;
        micros = micros.checked_add(number.checked_mul(*scale)?)?;
        rest = &after[unit_len..];
    }
    (last != u64::MAX).then(|| Duration::from_micros(micros))
}

/// Bytes: a number, or a string with a unit.
pub(super) fn size(value: &DeValue<'_>) -> Parsed<u64> {
    match size_or_max(value)? {
        Some(0) => wrong("a size of zero makes no sense here"),
        Some(bytes) => Ok(bytes),
        None => wrong("\"max\" makes no sense here"),
    }
}

/// Bytes, or "max" (`None`).
pub(super) fn size_or_max(value: &DeValue<'_>) -> Parsed<Option<u64>> {
    let parsed = match value {
        DeValue::Integer(_) => match u64::try_from(integer(value)?) {
            Ok(bytes) => Some(bytes),
            Err(_) => return wrong("a size cannot be negative"),
        },
        DeValue::String(text) if text == "max" => return Ok(None),
        DeValue::String(text) if text.ends_with('%') => {
            return wrong("a percentage of memory is known, but not supported yet");
        }
        DeValue::String(text) => parse_size(text),
        _ => return Err(Wrong::Type),
    };
    match parsed {
        Some(bytes) if bytes <= MAX_SIZE => Ok(Some(bytes)),
        Some(bytes) => wrong(format!("{bytes} bytes are more than the kernel can count")),
        None => {
            let text = value.as_str().unwrap_or_default();
            let help = match text.strip_suffix(['K', 'M', 'G', 'T']) {
                Some(number) if digits(number).is_some() => {
                    let unit = &text[number.len()..];
                    format!("say \"{text}iB\" ({unit} of 1024) or \"{text}B\" ({unit} of 1000)")
                }
                _ => "a whole number and a unit, no blanks: \"64MiB\", \"64MB\", \"512B\"".into(),
            };
            wrong_try(format!("`{text}` is not a size"), help)
        }
    }
}

pub(super) fn parse_size(text: &str) -> Option<u64> {
    const UNITS: &[(&str, u64)] = &[
        ("", 1),
        ("B", 1),
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("TiB", 1 << 40),
        ("kB", 1000),
        ("KB", 1000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("TB", 1_000_000_000_000),
    ];
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (_, scale) = UNITS.iter().find(|(unit, _)| *unit == &text[unit_at..])?;
    digits(&text[..unit_at])?.checked_mul(*scale)
}

/// A count between two bounds, or the word for "no bound" (`None`).
pub(super) fn count(value: &DeValue<'_>, low: i64, high: i64, unbounded: &str) -> Parsed<Option<u32>> {
    match value.as_str() {
        Some(word) if word == unbounded => Ok(None),
        Some(word) => wrong(format!("\"{word}\" is neither a number nor \"{unbounded}\"")),
        None => Ok(u32::try_from(between(value, low, high)?).ok()),
    }
}

/// Thousandths of a CPU: "150%", 1.5, 2, or "max" (`None`).
pub(super) fn cpu(value: &DeValue<'_>) -> Parsed<Option<u32>> {
    let milli = match value {
        DeValue::String(text) if text == "max" => return Ok(None),
        DeValue::String(text) => match permille(text) {
            Some(permille) => f64::from(permille),
            None => {
                return wrong_try(format!("`{text}` is not a share of CPUs"), "\"150%\", 1.5 or \"max\"");
            }
        },
        DeValue::Float(_) | DeValue::Integer(_) => (float(value)? * 1000.0).round(),
        _ => return Err(Wrong::Type),
    };
    if !(f64::from(MIN_CPU_MILLI)..=f64::from(MAX_CPU_MILLI)).contains(&milli) {
        return wrong_try("out of range: 1% of one CPU to 4096 CPUs", "\"max\" is no limit");
    }
    Ok(Some(milli as u32))
}

/// Per mille out of a percentage up to 100 %.
pub(super) fn percent(value: &DeValue<'_>) -> Parsed<u32> {
    let text = value.as_str().ok_or(Wrong::Type)?;
    match permille(text) {
        Some(permille) if permille <= 1000 => Ok(permille),
        Some(_) => wrong(format!("{text} is more than 100%")),
        None => wrong_try(format!("`{text}` is not a percentage"), "\"10%\" or \"2.5%\""),
    }
}

fn permille(text: &str) -> Option<u32> {
    let number = text.strip_suffix('%')?;
    let (whole, tenths) = number.split_once('.').unwrap_or((number, "0"));
    let tenths = (tenths.len() == 1).then(|| digits(tenths)).flatten()?;
    u32::try_from(digits(whole)?.checked_mul(10)?.checked_add(tenths)?).ok()
}
