//! Which name was meant.

/// The name of `known` that `given` is most likely a slip of, if any is close.
pub(super) fn closest<'n>(given: &str, known: &[&'n str]) -> Option<&'n str> {
    let given = given.to_lowercase();
    let near = known.iter().filter_map(|name| {
        let allowed = 1.max(name.len().max(given.len()) / 3);
        let distance = distance(&given, &name.to_lowercase());
        (distance <= allowed).then_some((distance, *name))
    });
    near.min_by_key(|(distance, _)| *distance).map(|(_, name)| name)
}

/// How many letters to insert, drop, replace or swap with their neighbour to turn one into the other.
fn distance(a: &str, b: &str) -> usize {
    // Long names are no slips, and the table grows with the product of the lengths.
    const LONGEST: usize = 64;
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.len() > LONGEST || b.len() > LONGEST {
        return usize::MAX;
    }
    // The last two rows of the table and the one being filled.
    let (mut before, mut last, mut row) = (Vec::new(), (0..=b.len()).collect::<Vec<_>>(), Vec::new());
    for i in 1..=a.len() {
        row.clear();
        row.push(i);
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(before[j - 2] + 1);
            }
            row.push(least);
        }
        std::mem::swap(&mut before, &mut last);
        std::mem::swap(&mut last, &mut row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, expected) in [
            ("", "", 0),
            ("abc", "abc", 0),
            ("", "abc", 3),
            ("mtu", "mut", 1),
            ("kitten", "sitting", 3),
            ("ca", "id", 2),
        ] {
            assert_eq!((distance(a, b), distance(b, a)), (expected, expected), "{a} {b}");
        }
    }

    #[test]
    fn slips_are_recognised_and_other_words_are_not() {
        let known = ["id", "secret", "discovery", "kubespan", "mtu", "listenPort"];
        for (given, expected) in [
            ("kubspan", Some("kubespan")),
            ("KubeSpan", Some("kubespan")),
            ("mut", Some("mtu")),
            ("MTU", Some("mtu")),
            ("listen_port", Some("listenPort")),
            ("listenport", Some("listenPort")),
            ("ID", Some("id")),
            ("ca", None),
            ("install", None),
            ("", None),
        ] {
            assert_eq!(closest(given, &known), expected, "{given}");
        }
        assert_eq!(closest(&"x".repeat(100_000), &known), None);
    }
}
