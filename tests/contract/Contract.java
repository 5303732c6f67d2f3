import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.ArrayList;
import java.util.List;

/** Threads, a child process and its handle, and enough garbage for the collector to have run. */
public class Contract {
    static volatile byte[] garbage;

    public static void main(String[] arguments) throws Exception {
        var pool = Executors.newFixedThreadPool(4);
        List<Future<Long>> parts = new ArrayList<>();
        for (int i = 0; i < 4; i++) {
            final long from = i * 1000L;
            parts.add(pool.submit(() -> {
                long sum = 0;
                for (long n = from; n < from + 1000; n++) sum += n;
                return sum;
            }));
        }
        long total = 0;
        for (var part : parts) total += part.get();
        pool.shutdown();
        System.out.println("threads " + total);

        Process child = new ProcessBuilder("/bin/echo", "child").redirectErrorStream(true).start();
        System.out.print(new String(child.getInputStream().readAllBytes()));
        System.out.println("exit " + child.waitFor() + " " + (ProcessHandle.current().pid() > 0));
        System.out.println("handle " + ProcessHandle.current().info().command().isPresent());

        for (int i = 0; i < 20000; i++) garbage = new byte[64 * 1024];
        long collections = 0;
        for (var bean : java.lang.management.ManagementFactory.getGarbageCollectorMXBeans())
            collections += bean.getCollectionCount();
        System.out.println("collected " + (collections > 0));
    }
}
