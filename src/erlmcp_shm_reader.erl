%% @doc Reads what another node on this host publishes, straight from its file.
%%
%% A reader takes no lock and registers nowhere: any number may be open, and none can hold the
%% writer up. It follows the writer through compactions, growth and restarts by itself. A handle
%% may be used from any process, and is closed when the last term that refers to it is gone.
%% The node that publishes needs none of this: it has {@link erlmcp_shm_exporter:lookup/2}.
-module(erlmcp_shm_reader).

-export([open/1, open/2, lookup/3, close/1, stats/1]).

-export_type([options/0]).

-type options() :: erlmcp_shm_nif:reader_options().
%% `refresh_interval': how often, in milliseconds, a replaced file is looked for; `allow_absent': open even
%% though there is no file yet; `trust_owner': accept a file of this user id; `watcher': look for
%% replaced files in the background; `prefault': map every page at once; `pread': map nothing and read
%% by system calls, for a file whose owner might truncate it.

%% @equiv open(Path, #{})
-spec open(file:filename_all()) ->
    {ok, erlmcp_shm_nif:reader()} | {error, erlmcp_shm_nif:reason()}.
open(Path) ->
    open(Path, #{}).

%% @doc Opens the file at `Path'.
-spec open(file:filename_all(), options()) ->
    {ok, erlmcp_shm_nif:reader()} | {error, erlmcp_shm_nif:reason()}.
open(Path, Options) ->
    case erlmcp_shm_config:path(Path) of
        {ok, Absolute} -> erlmcp_shm_nif:reader_open(Absolute, Options);
        error -> {error, {badarg, path}}
    end.

%% @doc The entry as it is at this moment. Values of up to 64 KiB are copied; a larger one refers to the
%% mapped file and keeps its pages for as long as the binary lives.
-spec lookup(erlmcp_shm_nif:reader(), erlmcp_shm_nif:kind(), Key :: binary()) ->
    erlmcp_shm_nif:entry() | {error, not_found | erlmcp_shm_nif:reason()}.
lookup(Reader, Kind, Key) ->
    erlmcp_shm_nif:reader_get(Reader, Kind, Key).

%% @doc Closes the reader; later calls give `{error, closed}'. Large values that were looked up stay valid.
-spec close(erlmcp_shm_nif:reader()) -> ok.
close(Reader) ->
    erlmcp_shm_nif:reader_close(Reader).

%% @doc What the file says of itself: sizes, entries, generation, age of the writer's heartbeat.
-spec stats(erlmcp_shm_nif:reader()) ->
    {ok, erlmcp_shm_nif:stats()} | {error, erlmcp_shm_nif:reason()}.
stats(Reader) ->
    erlmcp_shm_nif:reader_stats(Reader).
