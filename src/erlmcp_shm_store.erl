%% @private
%% What this node serves: the file that it writes; or, in a server of one client that has exported nothing, the file as
%% whoever writes it leaves it. Both give the same answers.
%%
%% The reader is held as the writer is, in a persistent term and for the same reasons (see erlmcp_shm_writer). It stays
%% when the node becomes the writer, so that nobody has it closed under a lookup.
-module(erlmcp_shm_store).

-export([read/1, is_read/0, release/0]).
-export([get/2, list/3, digest/0, version/2, changes/0, stats/0]).

-type held(Handle) :: {Handle, erlmcp_shm_config:exporter()}.

-type failed() :: {error, not_started | erlmcp_shm_nif:reason()}.

%%% Which file

%% @doc From now on the file is read, be there one or not.
-spec read(erlmcp_shm_config:exporter()) -> ok | {error, erlmcp_shm_nif:reason()}.
read(#{path := Path} = Config) ->
    case erlmcp_shm_reader:open(Path, #{allow_absent => true}) of
        {ok, Reader} -> persistent_term:put(?MODULE, {Reader, Config});
        {error, _} = Error -> Error
    end.

%% @doc Whether it is read, and not written.
-spec is_read() -> boolean().
is_read() ->
    case held() of
        {reader, _} -> true;
        _ -> false
    end.

%% @doc Neither any more. (For `badarg' see erlmcp_shm_writer.)
-spec release() -> ok.
release() ->
    ok = erlmcp_shm_writer:release(),
    case persistent_term:get(?MODULE, undefined) of
        undefined ->
            ok;
        {Reader, _} ->
            _ = persistent_term:erase(?MODULE),
            try
                erlmcp_shm_nif:reader_close(Reader)
            catch
                error:badarg -> ok
            end
    end.

-spec held() -> {writer, held(erlmcp_shm_nif:writer())} | {reader, held(erlmcp_shm_nif:reader())} | none.
held() ->
    case {erlmcp_shm_writer:held(), persistent_term:get(?MODULE, undefined)} of
        {{_, _} = Held, _} -> {writer, Held};
        {undefined, {_, _} = Held} -> {reader, Held};
        {undefined, undefined} -> none
    end.

%%% What is in it. Calls that run on a dirty scheduler are given a handle of their own.

-spec get(erlmcp_shm_nif:kind(), Key :: binary()) -> erlmcp_shm_nif:entry() | failed().
get(Kind, Key) ->
    case held() of
        {writer, {Writer, _}} -> erlmcp_shm_nif:get(Writer, Kind, Key);
        {reader, {Reader, _}} -> erlmcp_shm_nif:reader_get(Reader, Kind, Key);
        none -> {error, not_started}
    end.

%% @doc See erlmcp_shm_nif.
-spec list(erlmcp_shm_nif:kind(), After :: binary(), Limit :: non_neg_integer()) ->
    {ok, {[{Key :: binary(), Data :: binary(), Metadata :: binary()}], More :: boolean()}} | failed().
list(Kind, After, Limit) ->
    case held() of
        {_, {Handle, _}} -> erlmcp_shm_nif:list(erlmcp_shm_writer:own(Handle), Kind, After, Limit);
        none -> {error, not_started}
    end.

%% @doc Numbers, each of which is another one once a list of that kind is.
-spec digest() -> {ok, #{erlmcp_shm_nif:kind() => non_neg_integer()}} | failed().
digest() ->
    case held() of
        {_, {Handle, _}} ->
            case erlmcp_shm_nif:digest(erlmcp_shm_writer:own(Handle)) of
                {ok, {Resources, Tools, Prompts, Capabilities}} ->
                    {ok, #{resource => Resources, tool => Tools, prompt => Prompts, capability => Capabilities}};
                {error, _} = Error ->
                    Error
            end;
        none ->
            {error, not_started}
    end.

%% @doc Of an entry: another term once that is another.
-spec version(erlmcp_shm_nif:kind(), Key :: binary()) -> {ok, term()} | failed().
version(Kind, Key) ->
    case held() of
        {_, {Handle, _}} -> erlmcp_shm_nif:version(Handle, Kind, Key);
        none -> {error, not_started}
    end.

%% @doc Of everything: another term once anything was published.
-spec changes() -> {ok, term()} | failed().
changes() ->
    case held() of
        %% The two may have counted from different beginnings.
        {Role, {Handle, _}} ->
            case erlmcp_shm_nif:changes(Handle) of
                {ok, Changes} -> {ok, {Role, Changes}};
                {error, _} = Error -> Error
            end;
        none ->
            {error, not_started}
    end.

%% @doc What the file says of itself, and the options that this node was given.
-spec stats() -> {ok, erlmcp_shm_config:exporter(), erlmcp_shm_nif:stats()} | failed().
stats() ->
    case held() of
        {Role, {Handle, Config}} ->
            case stats(Role, Handle) of
                {ok, Stats} -> {ok, Config, Stats};
                {error, _} = Error -> Error
            end;
        none ->
            {error, not_started}
    end.

stats(writer, Writer) -> erlmcp_shm_nif:stats(Writer);
stats(reader, Reader) -> erlmcp_shm_nif:reader_stats(erlmcp_shm_writer:own(Reader)).
