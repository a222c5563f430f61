//! `loggos-sim`: whole clusters in one thread each, from seeds (`loggos::sim`).

fn main() -> std::process::ExitCode {
    loggos::sim::cli::main()
}
