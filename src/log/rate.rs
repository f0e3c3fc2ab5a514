//! How many lines a unit may write.

use std::time::{Duration, Instant};

use super::Settings;

/// Lines are counted per interval; what is too many is dropped, and the drop is counted.
#[derive(Debug)]
pub struct Rate {
    opened: Instant,
    lines: u32,
    dropped: u64,
}

impl Rate {
    pub fn new(now: Instant) -> Self {
        Rate { opened: now, lines: 0, dropped: 0 }
    }

    /// Whether one more line may be written now.
    pub fn admit(&mut self, settings: &Settings, now: Instant) -> bool {
        if settings.rate_burst == 0 {
            return true;
        }
        // With drops not yet reported the interval stays open until `report` closes it.
        if self.dropped == 0 && now >= self.opened + settings.rate_interval {
            *self = Rate::new(now);
        }
        if self.lines < settings.rate_burst {
            self.lines += 1;
            return true;
        }
        self.dropped += 1;
        false
    }

    /// When there will be something to report.
    pub fn due(&self, settings: &Settings) -> Option<Instant> {
        (self.dropped > 0).then(|| self.opened + settings.rate_interval)
    }

    /// The sentence about dropped lines, once their interval is over (or `at_once`).
    pub fn report(&mut self, settings: &Settings, now: Instant, at_once: bool) -> Option<String> {
        if self.dropped == 0 || !(at_once || now >= self.opened + settings.rate_interval) {
            return None;
        }
        let text =
            format!("{} lines dropped: more than {} in {} (log.rate)", self.dropped, settings.rate_burst, seconds(settings.rate_interval));
        *self = Rate::new(now);
        Some(text)
    }
}

fn seconds(duration: Duration) -> String {
    format!("{}s", duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_drops_then_a_report_then_a_new_burst() {
        let settings = Settings { max_size: 0, max_files: 1, rate_burst: 3, rate_interval: Duration::from_secs(10) };
        let start = Instant::now();
        let mut rate = Rate::new(start);
        let admitted = (0..10).filter(|_| rate.admit(&settings, start)).count();
        assert_eq!(admitted, 3);
        assert_eq!(rate.due(&settings), Some(start + Duration::from_secs(10)));
        assert_eq!(rate.report(&settings, start, false), None);
        let later = start + Duration::from_secs(10);
        assert_eq!(rate.report(&settings, later, false).as_deref(), Some("7 lines dropped: more than 3 in 10s (log.rate)"));
        assert!(rate.admit(&settings, later));
        assert_eq!(rate.due(&settings), None);
    }

    #[test]
    fn zero_is_no_limit() {
        let settings = Settings { max_size: 0, max_files: 1, rate_burst: 0, rate_interval: Duration::from_secs(1) };
        let mut rate = Rate::new(Instant::now());
        assert!((0..100_000).all(|_| rate.admit(&settings, Instant::now())));
    }
}
