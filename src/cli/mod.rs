//! The command line.
pub mod duration;
pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
