//! The `outrigger` binary; everything is in the library.

use std::process::ExitCode;

// The system allocator keeps freed cache entries of mixed sizes; this one gives their pages back, which holds the
// resident size near the configured capacity.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    outrigger::cli::main()
}
