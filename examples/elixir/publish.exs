# Publishes a resource, a tool's schema and a prompt, until its input ends: `mix run publish.exs`.

:ok =
  :erlmcp_shm_exporter.export_resource("file:///motd", "hello from Elixir", %{mime_type: "text/plain"})

:ok =
  :erlmcp_shm_exporter.export_batch([
    {:tool, "add", %{type: "object", required: ["a", "b"]}, %{description: "Adds two numbers"}},
    {:prompt, "greet", %{messages: [%{role: "user", content: %{type: "text", text: "Hi {{name}}"}}]}, %{}}
  ])

{:ok, "hello from Elixir", %{version: version}} = :erlmcp_shm_exporter.lookup(:resource, "file:///motd")
IO.puts("published, version #{version}")

# Something that it does not know is an answer, not an exception.
{:error, :empty_key} = :erlmcp_shm_exporter.export_resource("", "x", %{})

:eof = IO.read(:stdio, :line)

# Mix halts the node as it is. What was published would stay readable then too, and its writer be called dead.
:ok = Application.stop(:erlmcp_shm)
