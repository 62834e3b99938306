import Config

config :erlmcp_shm,
  claude_flow: %{shared_memory: %{path: "/dev/shm/motd.bin", size: 1_048_576}}
