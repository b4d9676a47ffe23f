//! `span-wg IFNAME` is `span wg --daemon IFNAME`: the form in which `wg-quick` calls a userspace WireGuard.

fn main() -> std::process::ExitCode {
    span_node::cli::wg_quick()
}
