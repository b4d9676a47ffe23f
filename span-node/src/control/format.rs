//! Figures as people read them.

/// `1.5 ms`, `12 s`, `3 min 5 s`, `2 h 5 min`, `4 d 3 h`.
pub(super) fn duration(seconds: f64) -> String {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    // Saturates; nobody's clock is that wrong.
    let whole = seconds as u64;
    let two = |large: u64, unit: &str, small: u64, smaller: &str| match small {
        0 => format!("{large} {unit}"),
        _ => format!("{large} {unit} {small} {smaller}"),
    };
    match whole {
        0 => milliseconds(seconds * 1000.0),
        1..MINUTE => format!("{whole} s"),
        MINUTE..HOUR => two(whole / MINUTE, "min", whole % MINUTE, "s"),
        HOUR..DAY => two(whole / HOUR, "h", whole % HOUR / MINUTE, "min"),
        DAY.. => two(whole / DAY, "d", whole % DAY / HOUR, "h"),
    }
}

/// `12 s ago`, or `never`.
pub(super) fn ago(seconds: Option<f64>) -> String {
    seconds.map_or("never".to_owned(), |seconds| format!("{} ago", duration(seconds)))
}

/// `0.42 ms`, `7.3 ms`, `150 ms`.
pub(super) fn milliseconds(ms: f64) -> String {
    match ms {
        _ if ms < 1.0 => format!("{:.2} ms", ms.max(0.0)),
        _ if ms < 10.0 => format!("{ms:.1} ms"),
        _ => format!("{ms:.0} ms"),
    }
}

/// `148 B`, `1.21 KiB`, `4.00 GiB`.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let power = count.ilog2() as usize / 10;
    let value = count as f64 / (1_u64 << (10 * power)) as f64;
    format!("{value:.2} {}", UNITS[power - 1])
}

/// Text of others' making, fit for a terminal: control characters would be commands to it.
pub(super) fn harmless(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { '\u{fffd}' } else { character }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (seconds, text) in [
            (-1.0, "0.00 ms"),
            (0.00042, "0.42 ms"),
            (0.25, "250 ms"),
            (1.9, "1 s"),
            (59.9, "59 s"),
            (60.0, "1 min"),
            (185.0, "3 min 5 s"),
            (7500.0, "2 h 5 min"),
            (3600.0, "1 h"),
            (356_400.0, "4 d 3 h"),
        ] {
            assert_eq!(duration(seconds), text, "{seconds}");
        }
        assert_eq!((ago(None), ago(Some(3.0))), ("never".to_owned(), "3 s ago".to_owned()));
        duration(f64::NAN);
        duration(f64::INFINITY);
    }

    #[test]
    fn byte_counts() {
        for (count, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.00 KiB"),
            (1_234_567, "1.18 MiB"),
            (1 << 40, "1.00 TiB"),
            (u64::MAX, "16.00 EiB"),
        ] {
            assert_eq!(bytes(count), text, "{count}");
        }
    }

    #[test]
    fn names_give_the_terminal_no_commands() {
        assert_eq!(harmless("a\u{1b}[2Jb\n\u{9b}é"), "a\u{fffd}[2Jb\u{fffd}\u{fffd}é");
    }
}
