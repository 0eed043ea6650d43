use crate::args::DemoArgs;
pub(crate) async fn run(_args: &DemoArgs) -> anyhow::Result<std::process::ExitCode> {
    unimplemented!()
}
