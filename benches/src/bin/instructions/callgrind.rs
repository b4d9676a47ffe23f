//! Running a program under valgrind's callgrind, and reading what it wrote.

use std::path::Path;
use std::process::Command;

/// The function between whose begin and end everything is counted: a part of a name that no other function has.
pub(crate) const REGION: &str = "counted_region";

/// What the region cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cost {
    /// Instructions in Rust code, without the ciphers.
    pub(crate) instructions: u64,
    /// Calls of memcpy and its like, which are not in `instructions`: their code depends on the CPU.
    pub(crate) copies: u64,
}

/// Whether there is a valgrind to run.
pub(crate) fn is_installed() -> bool {
    Command::new("valgrind").arg("--version").output().is_ok_and(|output| output.status.success())
}

/// Runs `program` and says what its one call of the region cost. `file` is written on the way.
pub(crate) fn count(program: &Path, arguments: &[&str], file: &Path) -> Result<Cost, String> {
    let mut command = Command::new("valgrind");
    command
        .args(["--tool=callgrind", "--quiet", "--demangle=no", "--compress-strings=no", "--compress-pos=no"])
        .arg(format!("--toggle-collect=*{REGION}*"))
        .arg(format!("--callgrind-out-file={}", file.display()))
        .arg(program)
        .args(arguments);
    let status = command.status().map_err(|error| format!("valgrind: {error}"))?;
    if !status.success() {
        return Err(format!("{command:?}: {status}"));
    }
    let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(parse(&text))
}

/// Reads callgrind's format, as far as it is written with names and positions uncompressed.
fn parse(text: &str) -> Cost {
    let mut cost = Cost::default();
    let (mut is_counted, mut is_libc) = (false, false);
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(name) = line.strip_prefix("fn=") {
            is_counted = is_rust(name) && !is_cipher(name);
        } else if let Some(object) = line.strip_prefix("cob=") {
            is_libc = object.contains("/libc.so") || object.contains("/libc-");
        } else if let Some(name) = line.strip_prefix("cfn=") {
            is_libc &=
                ["memcpy", "memmove", "memset", "memcmp", "bcmp"].iter().any(|word| name.contains(word));
        } else if let Some(call) = line.strip_prefix("calls=") {
            if is_libc && is_counted {
                cost.copies += call.split(' ').next().and_then(|count| count.parse().ok()).unwrap_or(0);
            }
            is_libc = false;
            // The next line is what the callee cost, which is counted where the callee stands.
            lines.next();
        } else if is_counted && line.starts_with(|first: char| first.is_ascii_digit()) {
            let own: Option<u64> = line.split(' ').nth(1).and_then(|count| count.parse().ok());
            cost.instructions += own.unwrap_or(0);
        }
    }
    cost
}

/// Whether a symbol is that of a Rust function: not of assembly, whose choice depends on the CPU, and not of libc.
fn is_rust(symbol: &str) -> bool {
    symbol.starts_with("_ZN") || symbol.starts_with("_R")
}

/// Whether a symbol is that of a function of a cipher, whose choice depends on the CPU too.
fn is_cipher(symbol: &str) -> bool {
    ["_ZN4ring", "_4ring", "$LT$ring..", "9span_aead", "span_core6crypto", "span_core..crypto"]
        .iter()
        .any(|part| symbol.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUT: &str = "\
# callgrind format
version: 1
cmd: target/count/instructions --run
positions: line
events: Ir
summary: 1000

ob=/repo/target/count/instructions
fl=???
fn=_ZN9span_core9wireguard6device4data17h0123456789abcdefE
0 40
cob=/usr/lib/x86_64-linux-gnu/libc.so.6
cfn=__memcpy_avx_unaligned_erms
calls=3 0
0 90
cfn=_ZN4ring4aead4seal17h0123456789abcdefE
calls=1 0
0 500
7 2

fn=_ZN4ring4aead4seal17h0123456789abcdefE
0 60

fn=chacha20_poly1305_seal_avx2
0 440

ob=/usr/lib/x86_64-linux-gnu/libc.so.6
fn=__memcpy_avx_unaligned_erms
0 90
";

    #[test]
    fn only_our_own_instructions_are_counted() {
        assert_eq!(parse(OUT), Cost { instructions: 42, copies: 3 });
    }
}
