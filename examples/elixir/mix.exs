defmodule Motd.MixProject do
  use Mix.Project

  def project do
    [app: :motd, version: "0.1.0", elixir: "~> 1.14", deps: deps()]
  end

  # The exporter starts with the application erlmcp_shm, by what config/config.exs says.
  def application, do: [extra_applications: [:logger]]

  defp deps do
    [{:erlmcp_shm, git: "URL of this repository", branch: "main"}]
  end
end
