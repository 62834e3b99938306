%% @private
%% Runs a function that may take too long, or fail, in a process of its own.
-module(erlmcp_shm_deadline).

-export([run/2]).

%% @doc What the function returned in time. One that is late is killed.
-spec run(fun(() -> Result), Ms :: non_neg_integer()) -> {ok, Result} | {error, term()}.
run(Fun, Ms) ->
    Self = self(),
    Tag = make_ref(),
    {Pid, Monitor} = spawn_monitor(fun() -> Self ! {Tag, Fun()} end),
    receive
        {Tag, Result} ->
            true = demonitor(Monitor, [flush]),
            {ok, Result};
        {'DOWN', Monitor, process, Pid, Reason} ->
            {error, Reason}
    after Ms ->
        exit(Pid, kill),
        %% Its last message, if there is one, comes before its end.
        receive
            {'DOWN', Monitor, process, Pid, _} -> ok
        end,
        receive
            {Tag, Result} -> {ok, Result}
        after 0 -> {error, timeout}
        end
    end.
