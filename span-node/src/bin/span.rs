//! The program `span`: see `span --help`.

fn main() -> std::process::ExitCode {
    span_node::cli::main()
}
