//! Numbers as text for people, the same for the command, the report and model cards.

/// 0.9477 -> "94.77%".
pub(crate) fn percent(share: f64) -> String {
    format!("{:.2}%", share * 100.0)
}

/// Seconds: "12 ms", "3.1 s", "2 min 05 s", "2 h 01 min".
pub(crate) fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 0.1 => format!("{:.0} ms", 1e3 * s),
        s if s < 100.0 => format!("{s:.1} s"),
        s if s < 6000.0 => format!("{:.0} min {:02.0} s", (s / 60.0).floor(), (s % 60.0).floor()),
        s => format!("{:.0} h {:02.0} min", (s / 3600.0).floor(), (s % 3600.0 / 60.0).floor()),
    }
}

/// 11689512 -> "11,689,512".
pub(crate) fn grouped(n: usize) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number and what it counts: "1 image", "1,200 images".
pub(crate) fn count(n: usize, one: &str, more: &str) -> String {
    format!("{} {}", grouped(n), if n == 1 { one } else { more })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        let durations = [0.0123, 3.12, 125.0, 7260.0].map(duration);
        assert_eq!(durations, ["12 ms", "3.1 s", "2 min 05 s", "2 h 01 min"]);
        assert_eq!([0, 999, 1000, 11_689_512].map(grouped), ["0", "999", "1,000", "11,689,512"]);
        assert_eq!((percent(0.9477), count(1, "image", "images")), ("94.77%".into(), "1 image".into()));
    }
}
