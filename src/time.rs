#![forbid(unsafe_code)]
//! PURE: points in civil time and lengths of time, as text. Nothing here reads a clock.

use std::fmt;

/// A point in time: microseconds since 1970-01-01T00:00:00Z. Shown as RFC 3339 in UTC, always 27 characters,
/// so that lines sort as text and a reader can cut the time off without looking for its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Utc(pub u64);

impl Utc {
    /// Length of the text form: `2026-11-22T10:00:00.123456Z`.
    pub const TEXT: usize = 27;

    /// Reads back what `Display` wrote, and nothing else.
    pub fn parse(text: &str) -> Option<Utc> {
        let bytes = text.as_bytes();
        let punctuation = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':'), (19, b'.'), (26, b'Z')];
        if bytes.len() != Utc::TEXT || punctuation.iter().any(|&(at, byte)| bytes[at] != byte) {
            return None;
        }
        let number = |from: usize, to: usize| -> Option<u64> {
            bytes[from..to].iter().try_fold(0u64, |sum, b| b.is_ascii_digit().then(|| sum * 10 + u64::from(b - b'0')))
        };
        let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
        let (hour, minute, second, micros) = (number(11, 13)?, number(14, 16)?, number(17, 19)?, number(20, 26)?);
        if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        let seconds = days_from_civil(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
        Some(Utc(seconds * 1_000_000 + micros))
    }
}

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, micros) = (self.0 / 1_000_000, self.0 % 1_000_000);
        let (year, month, day) = civil_from_days(seconds / 86_400);
        let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
    }
}

/// A length of time as a person says it: `3s`, `4m12s`, `2h05m`, `6d03h`.
pub struct Age(pub u64);

impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = self.0;
        let text = match s {
            0..60 => format!("{s}s"),
            60..3600 => format!("{}m{:02}s", s / 60, s % 60),
            3600..86_400 => format!("{}h{:02}m", s / 3600, s / 60 % 60),
            _ => format!("{}d{:02}h", s / 86_400, s / 3600 % 24),
        };
        f.pad(&text)
    }
}

/// Howard Hinnant's `days_from_civil`, <https://howardhinnant.github.io/date_algorithms.html>, for years from 1970 on.
fn days_from_civil(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year / 400;
    let year_of_era = year - era * 400;
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_times_read_and_write() {
        for (micros, text) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_782_400_000_000, "2000-02-29T00:00:00.000000Z"),
            (1_795_341_600_123_456, "2026-11-22T10:00:00.123456Z"),
            (4_102_444_799_999_999, "2099-12-31T23:59:59.999999Z"),
        ] {
            assert_eq!(Utc(micros).to_string(), text);
            assert_eq!(Utc::parse(text), Some(Utc(micros)));
        }
    }

    #[test]
    fn every_day_of_two_centuries_reads_back() {
        for day in 0..80_000 {
            let time = Utc(day * 86_400_000_000 + 1);
            assert_eq!(Utc::parse(&time.to_string()), Some(time));
        }
    }

    #[test]
    fn other_text_is_no_time() {
        for text in ["", "2026-11-22", "2026-11-22T10:00:00.123456+", "2026-13-22T10:00:00.123456Z", "2026-11-22T10:00:00.12345éZ"] {
            assert_eq!(Utc::parse(text), None, "{text}");
        }
    }

    #[test]
    fn ages() {
        for (seconds, text) in [(0, "0s"), (59, "59s"), (60, "1m00s"), (3599, "59m59s"), (7500, "2h05m"), (529_200, "6d03h")] {
            assert_eq!(Age(seconds).to_string(), text);
        }
    }
}
