%% @private
%% The native side, function by function; nothing here but specs. Calls named `..._dirty', `open',
%% `put_batch', `compact', `close', `list', `digest' and `reader_open' run on dirty schedulers. A handle that is none
%% is `badarg'; any other wrong argument is `{error, {badarg, What}}'.
-module(erlmcp_shm_nif).

-export([
    open/2,
    put/5,
    put_dirty/5,
    put_batch/2,
    delete/3,
    delete_dirty/3,
    get/3,
    stats/1,
    heartbeat/1,
    flush/1,
    compact/1,
    close/1,
    reader_open/2,
    reader_get/3,
    reader_stats/1,
    reader_close/1,
    validate_json/1,
    encode_json/1,
    decode_json/1,
    decode_json_dirty/1,
    list/4,
    digest/1,
    version/3,
    changes/1
]).

-export_type([
    writer/0,
    reader/0,
    handle/0,
    kind/0,
    json/0,
    batch_item/0,
    entry/0,
    open_options/0,
    reader_options/0,
    stats/0,
    reason/0
]).

-opaque writer() :: reference().
-opaque reader() :: reference().

-type handle() :: writer() | reader().

-type kind() :: resource | tool | prompt | capability.

-type json() :: map() | {json, binary()}.
%% An Erlang map, which becomes JSON, or JSON text, which is validated and stored byte for byte.

-type batch_item() ::
    {kind(), Key :: binary(), Data :: binary() | json(), Metadata :: json()}
    | {invalidate, kind(), Key :: binary()}.

-type entry() :: {ok, Data :: binary(), #{metadata := binary(), version := integer()}}.

-type open_options() :: #{
    size := pos_integer(),
    max_size := pos_integer(),
    mode := non_neg_integer(),
    recover := keep | clear,
    lock_wait := non_neg_integer(),
    heartbeat_interval := pos_integer()
}.

-type reader_options() :: #{
    refresh_interval => pos_integer(),
    allow_absent => boolean(),
    trust_owner => non_neg_integer(),
    watcher => boolean(),
    prefault => boolean(),
    pread => boolean()
}.

-type stats() :: #{atom() => term()}.

-type reason() :: atom() | {atom(), term()}.

-on_load(load/0).
-nifs([
    open/2,
    put/5,
    put_dirty/5,
    put_batch/2,
    delete/3,
    delete_dirty/3,
    get/3,
    stats/1,
    heartbeat/1,
    flush/1,
    compact/1,
    close/1,
    reader_open/2,
    reader_get/3,
    reader_stats/1,
    reader_close/1,
    validate_json/1,
    encode_json/1,
    decode_json/1,
    decode_json_dirty/1,
    list/4,
    digest/1,
    version/3,
    changes/1
]).

load() ->
    erlang:load_nif(filename:join(priv_dir(), "erlmcp_shm_nif"), 0).

%% Where the application is not on the code path as such (only its ebin, by a plain `-pa' under
%% another name) priv is still ebin's sibling.
priv_dir() ->
    case code:priv_dir(erlmcp_shm) of
        {error, bad_name} ->
            filename:join(filename:dirname(filename:dirname(code:which(?MODULE))), "priv");
        Dir ->
            Dir
    end.

-spec open(Path :: binary(), open_options()) -> {ok, writer()} | {error, reason()}.
open(_Path, _Options) ->
    erlang:nif_error(not_loaded).

%% On a normal scheduler: `busy' says nothing was tried, call `put_dirty/5'.
-spec put(writer(), kind(), binary(), binary() | json(), json()) ->
    ok | busy | {error, reason()}.
put(_Writer, _Kind, _Key, _Data, _Metadata) ->
    erlang:nif_error(not_loaded).

-spec put_dirty(writer(), kind(), binary(), binary() | json(), json()) ->
    ok | {error, reason()}.
put_dirty(_Writer, _Kind, _Key, _Data, _Metadata) ->
    erlang:nif_error(not_loaded).

-spec put_batch(writer(), [batch_item()]) ->
    ok | {error, {Index :: non_neg_integer(), reason()} | reason()}.
put_batch(_Writer, _Items) ->
    erlang:nif_error(not_loaded).

-spec delete(writer(), kind(), binary()) -> ok | busy | {error, reason()}.
delete(_Writer, _Kind, _Key) ->
    erlang:nif_error(not_loaded).

-spec delete_dirty(writer(), kind(), binary()) -> ok | {error, reason()}.
delete_dirty(_Writer, _Kind, _Key) ->
    erlang:nif_error(not_loaded).

-spec get(writer(), kind(), binary()) -> entry() | {error, not_found | reason()}.
get(_Writer, _Kind, _Key) ->
    erlang:nif_error(not_loaded).

-spec stats(writer()) -> {ok, stats()} | {error, reason()}.
stats(_Writer) ->
    erlang:nif_error(not_loaded).

%% A dirty call. `{error, path_lost}': the path no longer names our file; the writer sees to it by itself.
-spec heartbeat(writer()) -> ok | {error, reason()}.
heartbeat(_Writer) ->
    erlang:nif_error(not_loaded).

%% Wakes waiting readers if anything was published since they were last woken.
-spec flush(writer()) -> ok | {error, closed | corrupt}.
flush(_Writer) ->
    erlang:nif_error(not_loaded).

-spec compact(writer()) -> ok | {error, reason()}.
compact(_Writer) ->
    erlang:nif_error(not_loaded).

-spec close(writer()) -> ok.
close(_Writer) ->
    erlang:nif_error(not_loaded).

-spec reader_open(Path :: binary(), reader_options()) -> {ok, reader()} | {error, reason()}.
reader_open(_Path, _Options) ->
    erlang:nif_error(not_loaded).

-spec reader_get(reader(), kind(), binary()) -> entry() | {error, not_found | reason()}.
reader_get(_Reader, _Kind, _Key) ->
    erlang:nif_error(not_loaded).

-spec reader_stats(reader()) -> {ok, stats()} | {error, reason()}.
reader_stats(_Reader) ->
    erlang:nif_error(not_loaded).

-spec reader_close(reader()) -> ok.
reader_close(_Reader) ->
    erlang:nif_error(not_loaded).

-spec validate_json(term()) -> {ok, binary()} | {error, {not_json, Where :: list()}}.
validate_json(_Term) ->
    erlang:nif_error(not_loaded).

-spec encode_json(term()) -> {ok, binary()} | {error, {not_json, Where :: list()}}.
encode_json(_Term) ->
    erlang:nif_error(not_loaded).

%% On a normal scheduler: `busy' says that the text is long, call `decode_json_dirty/1'.
-spec decode_json(Text :: binary()) -> {ok, term()} | busy | {error, {not_json, []}}.
decode_json(_Text) ->
    erlang:nif_error(not_loaded).

-spec decode_json_dirty(Text :: binary()) -> {ok, term()} | {error, {not_json, []}}.
decode_json_dirty(_Text) ->
    erlang:nif_error(not_loaded).

%% The first entries, by key, after `After'; whether there are more. Of resources the data are left empty.
-spec list(handle(), kind(), After :: binary(), Limit :: non_neg_integer()) ->
    {ok, {[{Key :: binary(), Data :: binary(), Metadata :: binary()}], More :: boolean()}}
    | {error, reason()}.
list(_Handle, _Kind, _After, _Limit) ->
    erlang:nif_error(not_loaded).

%% For resources, tools, prompts and capabilities each: another number once what a list of them shows is another.
-spec digest(handle()) ->
    {ok, {non_neg_integer(), non_neg_integer(), non_neg_integer(), non_neg_integer()}}
    | {error, reason()}.
digest(_Handle) ->
    erlang:nif_error(not_loaded).

%% Versions of two stores have nothing to do with each other.
-spec version(handle(), kind(), binary()) ->
    {ok, {Store :: binary(), Version :: integer()}} | {error, not_found | reason()}.
version(_Handle, _Kind, _Key) ->
    erlang:nif_error(not_loaded).

%% Another term once anything was published, or another store has taken the path.
-spec changes(handle()) -> {ok, {Store :: binary(), Counter :: integer()}} | {error, reason()}.
changes(_Handle) ->
    erlang:nif_error(not_loaded).
